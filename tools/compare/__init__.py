"""What changed between two commits of a study, with verdicts."""
