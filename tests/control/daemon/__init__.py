"""Tests of `wattline.control.daemon`."""
