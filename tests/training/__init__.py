"""Tests of `wattline.training`."""
