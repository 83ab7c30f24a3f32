"""Tests for `wattline.exporters`."""
