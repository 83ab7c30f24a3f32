"""Sensors, one module for each way a device is read."""
