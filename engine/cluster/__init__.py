"""The port to a Kubernetes API, and what stands behind it."""
