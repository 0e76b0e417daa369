"""The pipeline: a folder for each stage of dvc.yaml, and what the stages share.

A stage imports its own folder, `study`, `many_seeds` and, for training and evaluation, `recipes`.
"""
