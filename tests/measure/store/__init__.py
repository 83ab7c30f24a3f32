"""Tests of `wattline.measure.store`."""
