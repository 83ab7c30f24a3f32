"""The serving simulator: replicas that batch continuously, step by step."""
