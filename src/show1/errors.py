"""The exceptions of show1.

::

    Show1Error
    ├── InputError (ValueError)          a prompt, size, option or file from the user cannot be used
    ├── OutputError (OSError)            the result cannot be written (permission, disk full, file exists)
    ├── ModelNotFoundError               no such model, or it is not on this disk and the Hub cannot be reached
    │   └── GatedModelError              the Hub asks for a licence to be accepted first
    ├── CheckpointError                  a file of a checkpoint is missing, partial, corrupt or of the wrong shape
    ├── MediaError                       a video or image file cannot be read
    ├── RunError                         a run folder is damaged, or belongs to other settings
    │   └── RunInUseError                another process writes it
    ├── MissingDependencyError (ImportError)  an optional package is not installed
    └── Cancelled                        the caller asked the generation to stop

Every message says what came, what was expected, and what to do.
"""


class Show1Error(Exception):
    """Root of all errors that show1 raises on purpose."""


class InputError(Show1Error, ValueError):
    """A prompt, size, option or file from the user cannot be used."""


class OutputError(Show1Error, OSError):
    """The result cannot be written: no permission, disk full, or the file already exists."""


class ModelNotFoundError(Show1Error):
    """There is no such model, or it is not on this disk and the Hub cannot be reached."""


class GatedModelError(ModelNotFoundError):
    """The Hub asks for a licence to be accepted before the weights can be downloaded."""


class CheckpointError(Show1Error):
    """A file of a checkpoint is missing, partial, corrupt or of the wrong shape."""


class MediaError(Show1Error):
    """A video or image file cannot be read."""


class RunError(Show1Error):
    """A run folder is damaged, or belongs to a run with other settings."""


class RunInUseError(RunError):
    """Another process writes the run folder."""


class MissingDependencyError(Show1Error, ImportError):
    """An optional package is not installed; the message names the install command."""


class OutOfMemory(Show1Error, MemoryError):
    """Memory ran out; what was finished is kept."""


class Cancelled(Show1Error):
    """The caller stopped the generation; its run folder keeps the finished stages."""


def reason_of(error: BaseException) -> str:
    """Returns the text of an error of another package on one line; its class where it has no text."""
    return " ".join(str(error).split()) or type(error).__name__
