"""The stage `fetch`: the raw files of the data set in data/raw, downloaded or copied, and verified.

It imports many_seeds and stages.study.
"""
