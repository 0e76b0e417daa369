"""Run anybody's training code, with more seeds only where a result is open, and keep every score."""
