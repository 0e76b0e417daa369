"""The trained models in use: prediction, a server, the model registry, and the preparation of pictures.

It imports many_seeds, stages.study, stages.recipes and stages.tracking.
"""
