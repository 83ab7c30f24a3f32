"""Tests of `wattline.web`."""
