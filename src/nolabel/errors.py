"""The kinds of failure. Every message is one sentence: what, why, what to do. Only `cli` prints and exits."""


class NolabelError(Exception):
    """Base of all failures that a person is told about in one sentence."""

    exit_code = 1


class UsageError(NolabelError):
    """Wrong use: an unknown name, an option out of range, a path that is not there. Exit code 2."""

    exit_code = 2


class DataError(NolabelError):
    """The images cannot be used: none found, too few, all unreadable, changed since the run began. Exit code 2."""

    exit_code = 2


class RunError(NolabelError):
    """A run failed after it began: a loss that is not finite, a killed rank, a full disk. Exit code 1."""


class FileFormatError(NolabelError):
    """A file is not what it should be: damaged, of another kind, or of an unknown format version. Exit code 1."""
