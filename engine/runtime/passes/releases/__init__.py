"""The reconciliation of HelmReleases: what is to be done, each action, its hooks, and Helm's records of it."""
