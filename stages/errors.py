"""The error that a user can fix, under the name that stages/recipes imports."""

from many_seeds.errors import UserError as StudyError

__all__ = ["StudyError"]
