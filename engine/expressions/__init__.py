"""Expressions in CEL over Kubernetes objects, evaluated in a process of their own."""
