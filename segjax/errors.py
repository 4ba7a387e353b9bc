"""The one error class for input that the user can mend."""


class InputError(ValueError):
    """Says, in one line, which file or value is wrong and what to do about it.

    The command line prints the message of an ``InputError`` alone; anything else is a bug.

    Example:
        >>> raise InputError("b.nii.gz: there is no such file")
        Traceback (most recent call last):
        segjax.errors.InputError: b.nii.gz: there is no such file
    """
