"""Tests of `wattline.simulate`."""
