"""Helm charts: rendering, values, and Helm's release records. It knows nothing of the runtime."""
