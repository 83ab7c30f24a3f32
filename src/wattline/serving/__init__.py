"""Plans: compose frontiers, pick points under goals, unroll them into settings."""
