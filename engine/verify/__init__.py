"""Whether a plan is valid and harmless: its checks, and the prune guard."""
