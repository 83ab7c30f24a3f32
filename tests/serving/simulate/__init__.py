"""Tests of `wattline.serving.simulate`."""
