"""Tests of what is deployed beside the package: chart, units, scripts of a scheduler."""
