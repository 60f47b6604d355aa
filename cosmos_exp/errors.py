"""Errors a user can mend. They are shown as one or two lines, without a traceback (`--debug` shows it)."""


class UserError(Exception):
    """The request was wrong: unknown option, bad config, missing input. Exit code 2."""

    exit_code = 2


class RunError(UserError):
    """The run itself failed: a check did not hold, a loss was not finite, some videos are bad. Exit code 1."""

    exit_code = 1


class Interrupted(RunError):
    """The run was asked to stop and did so at a point it can go on from. Exit code 1."""
