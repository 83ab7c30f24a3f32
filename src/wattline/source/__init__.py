"""Sources: where hardware and workload first meet and become time and energy."""
