"""Tests of `wattline.frontier`."""
