"""Every error a user can cause. Each is one line: the file, the value, the limit and the cure."""

from __future__ import annotations


class MMWorldError(Exception):
    """Base of all errors that mmworld raises on purpose.

    Attributes:
        exit_code: what the command line exits with when this error ends it.
        hint: what the user can do about it, or "".
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = " ".join(super().__str__().split())
        return f"{message} ({self.hint})" if self.hint else message


class UsageError(MMWorldError):
    """The command line or an argument is wrong."""

    exit_code = 2


class LengthError(UsageError, ValueError):
    """A text is longer than the model has learned places for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="a shorter text fits")


class MediaError(MMWorldError):
    """A file, stream, cloud or signal cannot be used.

    Attributes:
        code: a stable word for the kind of fault: "empty", "truncated", "format", "codec", "missing", …
    """

    exit_code = 4

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SourceError(MediaError):
    """The source itself is refused or cannot be opened: a path, a URL, a protocol."""


class LimitError(MediaError):
    """An input asks for more than a stated limit (pixels, points, channels, bytes, seconds)."""


class CheckpointError(MMWorldError):
    """A checkpoint does not fit: missing or unknown keys, wrong shapes, damaged or unsafe files."""

    exit_code = 5


class ConfigError(MMWorldError):
    """A config has an unknown key, a wrong type or a value out of range."""

    exit_code = 2


class AttentionError(MMWorldError):
    """No attention backend takes these tensors and this mask; the message lists every backend's reasons."""


class ResourceError(MMWorldError):
    """Disk, memory or device ran out."""

    exit_code = 6


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the CPU or on a device."""
    named = type(error).__name__ == "OutOfMemoryError"
    words = ("can't allocate memory", "failed to map segment", "CUDA out of memory")
    return named or isinstance(error, MemoryError) or any(w in str(error) for w in words)
