"""Tests of Wattline; they mirror the source tree."""
