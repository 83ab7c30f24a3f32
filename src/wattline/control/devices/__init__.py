"""Knobs of real and simulated devices, each behind the actuator's protocol."""
