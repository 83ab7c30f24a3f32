"""Tests for `wattline.callbacks`."""
