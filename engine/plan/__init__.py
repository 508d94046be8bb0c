"""What is going to be done to a cluster, decided before it is done."""
