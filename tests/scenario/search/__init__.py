"""Tests of `wattline.scenario.search`."""
