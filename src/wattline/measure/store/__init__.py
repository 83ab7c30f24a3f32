"""Runs, windows and samples kept in a database, and what it knows told."""
