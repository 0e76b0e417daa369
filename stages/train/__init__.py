"""The stage `train`: runs, each a pure function of recipe, seed, data, code and packages, on an executor.

It imports many_seeds, stages.study and stages.recipes; its command imports stages.tracking, too.
"""
