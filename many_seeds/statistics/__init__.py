"""Pure functions over arrays and numbers; imports many_seeds.errors only."""
