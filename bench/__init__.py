"""Benchmarks: each answers one question with a ratio against a floor that is measured in the same run."""
