"""Serving: a replica's steps, its engine, and what serves requests for the least energy."""
