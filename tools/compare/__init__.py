"""Compare two commits of a study: what changed, with a verdict on each variant."""
