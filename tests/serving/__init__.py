"""Tests of `wattline.serving`."""
