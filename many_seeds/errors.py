"""The error for problems that a user can fix."""


class UserError(Exception):
    """A problem with input, files or the machine.

    The message has what was expected, what was received and how to fix it.
    """
