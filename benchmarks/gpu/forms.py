"""The forms of convolutions that the benchmark compares."""

from stages.train.executors.batched_seeds.forms import TODAY, Forms

TODAYS = "today's"
FORMS = {
    TODAYS: TODAY,
    "first as shifts": Forms(first_as_shifts=True),
    "short patches": Forms(short_patches=True),
    "both": Forms(first_as_shifts=True, short_patches=True),
}
