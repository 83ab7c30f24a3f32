"""Tests of `wattline.control`."""
