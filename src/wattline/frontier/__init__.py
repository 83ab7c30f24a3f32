"""The waist: frontiers, their algebra, the exact solver of graphs, and fits of noisy samples."""
