"""The level of each comparison, which depends on when it was first asked, and never changes."""

FIRST_SHARE = 0.8  # of α, for the comparisons that are asked together at first


def batch_level(batch: int, size: int, alpha: float) -> float:
    """The level of each comparison in a batch of comparisons that were first asked together.

    The first batch shares 80 % of α; batch b ≥ 2 shares 20 % of α / (b (b − 1)). The shares of all batches add up to α,
    however many follow, so all comparisons together have a wrong verdict with probability α at most.

    Args:
        batch: the number of the batch, from 1 on.
        size: the number of comparisons in the batch.
        alpha: the probability that any interval of the study misses.

    Returns:
        The probability that the interval of one comparison misses.

    Raises:
        ValueError: batch or size is less than 1, or alpha is not between 0 and 1.

    Example:
        >>> f"{batch_level(1, 19, 0.05):.10f}", f"{batch_level(2, 6, 0.05):.8f}"
        ('0.0021052632', '0.00083333')
    """
    if batch < 1 or size < 1:
        raise ValueError(f"Expected a batch and a size of 1 or more, received {batch} and {size}.")
    if not 0 < alpha < 1:
        raise ValueError(f"Expected an alpha between 0 and 1, received {alpha}.")
    share = FIRST_SHARE if batch == 1 else (1 - FIRST_SHARE) / (batch * (batch - 1))
    return share * alpha / size
