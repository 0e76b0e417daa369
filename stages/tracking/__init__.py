"""Publishes the runs of a study to MLflow, where they can be looked at; the record of a study is git and DVC.

Everything published is read from the study's files and can be published again at any time. The `__main__` of train and
aggregate and the tools import this package; nothing below them does. It imports `stages.study` and `many_seeds`.
"""
