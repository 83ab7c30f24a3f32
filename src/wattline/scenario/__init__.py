"""One file in, one answer out: where all layers are put together."""
