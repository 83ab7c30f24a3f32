"""Energy in the loops of training frameworks: each module needs its framework and is imported by name."""
