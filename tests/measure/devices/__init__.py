"""Tests of `wattline.measure.devices`."""
