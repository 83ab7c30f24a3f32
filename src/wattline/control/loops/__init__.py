"""Loops that set knobs while work runs: profile, tune, follow, govern."""
