"""Tests of `wattline.site.simulate`."""
