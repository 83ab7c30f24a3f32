"""Tests of `wattline.workload`."""
