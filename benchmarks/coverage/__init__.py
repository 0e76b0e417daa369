"""How often a verdict is wrong: simulated scores with known differences, a module for each question."""
