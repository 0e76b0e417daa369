"""Certify: train a sample of runs again, and record whether today's code and packages give the same bits.

It imports stages and tools.git; nothing imports it.
"""
