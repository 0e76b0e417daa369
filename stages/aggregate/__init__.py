"""The stage `aggregate`: tables, figures and the report from the results of all variants.

It imports many_seeds and stages.study; its command imports stages.tracking, too.
"""
