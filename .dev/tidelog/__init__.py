"""Tidelog, a GitOps engine with a perfect memory.

The sub-packages are `tidelog.events` (what happened), `tidelog.storage` (where it is kept) and
`tidelog.engine` (what acts); imports go from the last to the first, never back.
"""

__version__ = "0.3.0"
