"""What decides the bits of a result: families of models, their code, and environments, as digests.

May import study/ and many_seeds.
"""
