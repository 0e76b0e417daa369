"""Add seeds until every comparison of a study has a verdict and every race has ended."""
