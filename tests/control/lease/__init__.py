"""Tests of `wattline.control.lease`."""
