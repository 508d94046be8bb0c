"""What is told of the log's news: statuses, Kubernetes Events and posts, log lines, metrics."""
