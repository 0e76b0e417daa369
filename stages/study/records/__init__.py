"""The files of a study, each with its reader and writer: data, models, results, the ledger.

May import study/ and many_seeds.
"""
