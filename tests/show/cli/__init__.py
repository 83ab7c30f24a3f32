"""Tests of `wattline.show.cli`."""
