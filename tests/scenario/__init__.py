"""Tests of `wattline.scenario`."""
