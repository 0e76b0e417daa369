"""Results as text, Markdown and figures.

May import errors, files, statistics and, for types, results.
"""
