"""Tests of `wattline.site`."""
