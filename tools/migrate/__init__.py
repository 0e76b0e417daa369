"""Migrate the results of version 1 to the pipeline of version 2; imports stages, tools.git and tools.stale."""
