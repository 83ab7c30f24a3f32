"""Tests of `wattline.source.dataflow`."""
