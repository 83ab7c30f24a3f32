"""Tests of `wattline.source.roofline`."""
