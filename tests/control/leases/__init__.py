"""Tests of `wattline.control.leases`."""
