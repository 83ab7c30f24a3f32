"""Tests for `wattline.control.callbacks`."""
