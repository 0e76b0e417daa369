"""The statistics of comparisons: pure functions over arrays and numbers.

Imports nothing else of many_seeds.
"""
