"""The stage `ledger`: every comparison that was ever asked, with its level, in metrics/comparisons.csv.

It imports many_seeds and stages.study.
"""
