"""The error a user can mend."""


class UserError(ValueError):
    """Bad input: the message says in one line what is wrong, where (file, id, param) and what to do.

    Stages print it without a traceback and exit with status 1.
    """
