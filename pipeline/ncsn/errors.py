"""The one exception that is the user's to mend."""


class UserError(Exception):
    """Bad input. The message names the value, the file or key, and the mend, in one sentence or two.

    A stage that meets one prints it without a traceback and exits with code 2.
    """
