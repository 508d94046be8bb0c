"""The kinds of Flux's API that the engine knows: their specs, statuses, conditions and CRDs. Pure, all of it."""
