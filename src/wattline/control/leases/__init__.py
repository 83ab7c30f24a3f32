"""Leases: the right to set one device for a while, and every way it can end."""
