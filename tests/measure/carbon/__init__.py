"""Tests for `wattline.measure.carbon`."""
