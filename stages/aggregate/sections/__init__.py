"""The sections of the report: the tables and figures of one subject each.

They import many_seeds, stages.study and what else is in stages.aggregate.
"""
