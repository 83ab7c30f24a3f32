"""Tests of `wattline.source`."""
