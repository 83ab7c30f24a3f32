"""Simulations: plans played against arrivals, failures and noise, through the waist alone."""
