"""Tests of `wattline.show.web`."""
