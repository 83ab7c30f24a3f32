"""Tests of `wattline.source.measured`."""
