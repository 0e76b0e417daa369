"""Scores of runs from files, Python objects and MLflow.

May import many_seeds.errors, many_seeds.messages, many_seeds.redact and modules of this package.
"""
