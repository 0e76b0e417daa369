"""The stage `evaluate`: predictions and scores of a variant's models on the test set.

It imports many_seeds, stages.study and stages.recipes.
"""
