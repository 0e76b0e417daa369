"""Scores of runs from files, Python objects and MLflow.

May import many_seeds.errors, many_seeds.output.messages, many_seeds.commands.redact and modules of this package.
"""
