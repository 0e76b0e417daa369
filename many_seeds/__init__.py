"""Is model B better than model A, and would it still be with other seeds?

The library: scores over seeds are compared by anytime-valid intervals. It needs NumPy, SciPy, pandas and matplotlib,
and knows nothing of Keras, DVC or the pipeline.
"""

from many_seeds.comparisons import Result, Results, Settings, compare
from many_seeds.errors import UserError
from many_seeds.intervals import Interval, half_width, interval

__all__ = ["Interval", "Result", "Results", "Settings", "UserError", "compare", "half_width", "interval"]
