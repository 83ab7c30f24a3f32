"""Tests of `wattline.plan`."""
