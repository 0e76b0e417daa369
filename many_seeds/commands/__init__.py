"""The command many-seeds, and how all commands of the project start, end and print errors.

May import all of many_seeds.
"""
