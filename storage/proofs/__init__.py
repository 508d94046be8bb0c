"""Showing that the log is what was written: checkpoints, proofs, tiles, and verification of a whole store."""
