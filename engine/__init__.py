"""What acts: the stages, the runner, clusters, the daemon and the command line."""
