"""Tests for `wattline.measure.exporters`."""
