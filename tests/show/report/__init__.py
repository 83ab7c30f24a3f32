"""Tests of `wattline.show.report`."""
