"""Errors that a user can fix. The command line shows them as one or two lines; `--debug` adds the traceback."""


class UserError(Exception):
    """The request was wrong: unknown option, invalid configuration, missing input. Exit code 2."""

    exit_code = 2


class RunError(UserError):
    """The run failed: a check failed, a loss was not finite, some videos are bad. Exit code 1."""

    exit_code = 1


class Interrupted(RunError):
    """The run was asked to stop and can be resumed. Exit code 1."""


class DiskError(RunError):
    """A file cannot be written: the disk is full, the folder is read-only. The same command can be run again. Exit code 1."""


class DamagedError(UserError):
    """A file of a run folder cannot be read as what it should be. The message says what to delete. Exit code 2."""
