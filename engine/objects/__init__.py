"""Kubernetes objects as values: their names, the fields someone owns in them, how two of them differ."""
