"""A Kubernetes API in this process: for trying Tidelog, for what-if, and for tests of many faults. Not for production.

It is held to the real API server by the contract suite and by differential tests.
"""
