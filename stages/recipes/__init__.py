"""The families of models, a file for each. Of the code here, only this folder decides the result of a run on a CPU.

They import stages.recipes and many_seeds.errors.
"""
