"""A fleet of targets, a real API server, and an engine that reconciles the one on the other: what `mttp` measures."""
