"""Tests of `wattline.control.loops`."""
