"""Certify: train a sample of runs anew, and record where today's code and packages make the same bits. May import the
stages; nothing imports it."""
