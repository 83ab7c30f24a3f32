"""Tests of `wattline.core`."""
