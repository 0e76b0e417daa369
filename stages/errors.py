class StudyError(Exception):
    """Something the person at the keyboard can mend; the message says what was expected, what was found, what to do."""
