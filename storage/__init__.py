"""Where bytes live: the log, bodies, artifacts and read models, behind small protocols."""
