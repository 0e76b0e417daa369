"""The memory that the images of custom data need as arrays, known from headers before they are decoded."""

import psutil

from many_seeds.errors import UserError

COPIES = 3  # of the images at a time: as they are read, as one array, and as training and test images
GIB = 1 << 30


def check_memory(size: int, what: str, remedy: str) -> None:
    """Check that the images of a data set fit into memory, with room for the copies of them that the stage makes.

    Args:
        size: of all arrays, in bytes.
        what: the data, for the error.
        remedy: what to do if they do not fit.

    Raises:
        UserError: they do not fit into the memory that is available on this machine.
    """
    needed, available = COPIES * size, psutil.virtual_memory().available
    if needed > available:
        raise UserError(
            f"{what} need {needed / GIB:.1f} GiB of memory ({COPIES} copies of {size / GIB:.1f} GiB), and "
            f"{available / GIB:.1f} GiB are available: {remedy}, or use a machine with more memory"
        )
