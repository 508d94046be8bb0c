"""What runs: the passes over sources and targets, when they run, what they record and report."""
