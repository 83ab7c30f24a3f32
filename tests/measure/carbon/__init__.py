"""Tests for `wattline.carbon`."""
