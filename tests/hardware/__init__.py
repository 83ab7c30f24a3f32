"""Tests of `wattline.hardware`."""
