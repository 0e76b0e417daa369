"""The stage `split`: raw files of any format as arrays, and the validation split of every seed.

It imports many_seeds and stages.study.
"""
