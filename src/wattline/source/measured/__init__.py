"""Measured kernels and profiles: read, compared and calibrated with."""
