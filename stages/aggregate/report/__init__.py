"""The report: its page, and the tables and figures that it consists of.

It imports many_seeds, stages.study and stages.aggregate.sections.
"""
