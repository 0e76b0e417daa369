"""The stage `code`: which code and packages make the results of each variant, in metrics/code.yaml.

It imports many_seeds and stages.study.
"""
