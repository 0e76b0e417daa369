"""The families of models: a file for each, and nothing else decides the result of a run.

They import stages.recipes and many_seeds.errors.
"""
