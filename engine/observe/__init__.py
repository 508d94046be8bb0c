"""What is seen in a cluster: health, drift, and the watch that tells of every change."""
