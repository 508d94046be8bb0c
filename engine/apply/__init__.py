"""The one door through which clusters are changed."""
