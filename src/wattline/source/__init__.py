"""Sources: whatever turns work and a device into time and energy."""
