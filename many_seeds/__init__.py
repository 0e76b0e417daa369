"""Compare variants of a model over seeds: is B better than A, and would it be with other seeds?

Anytime-valid confidence sequences for the mean difference of paired runs, and the verdicts read off them. Needs NumPy,
SciPy, pandas and matplotlib (`decide` also joblib and cloudpickle), and does not depend on Keras, DVC or the pipeline
of this repository.
"""

from importlib.metadata import PackageNotFoundError, version

from many_seeds.api import compare, decide
from many_seeds.errors import UserError
from many_seeds.races import RaceResult
from many_seeds.results import Result, Results, Settings
from many_seeds.statistics.intervals import Interval, half_width, interval

__all__ = [
    "Interval",
    "RaceResult",
    "Result",
    "Results",
    "Settings",
    "UserError",
    "compare",
    "decide",
    "half_width",
    "interval",
]

try:
    __version__ = version("many-seeds")
except PackageNotFoundError:
    __version__ = "unknown"  # of a copy that is not installed
