"""The stage `aggregate`: tables, figures and the report. It imports many_seeds, stages.study and stages.tracking."""
