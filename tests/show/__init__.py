"""Tests of `wattline.show`."""
