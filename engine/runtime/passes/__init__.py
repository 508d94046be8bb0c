"""Passes over sources and targets: what is missing is done, stage by stage; previews, which only ask."""
