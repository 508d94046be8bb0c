"""Projections of the log, kept in a file of their own: folded on, and read as of any moment."""
