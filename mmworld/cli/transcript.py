"""One input's captions on their way out: whole pieces, flushed; files under name.part until they are complete."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmworld.cli.console import shown
from mmworld.cli.formats import FORMATS, LIVE, Format, Origin
from mmworld.cli.targets import Targets
from mmworld.errors import ResourceError
from mmworld.types import Caption


class Transcript:
    """Writes captions to all targets of one input.

    Args:
        prefix: put before each line of text on standard output, to tell inputs apart.
    """

    def __init__(self, targets: Targets, origin: Origin, prefix: str = "") -> None:
        self.captions: list[Caption] = []
        self.paths = [path for path in targets.values() if path is not None]
        self._origin = origin
        self._outputs = [_Output(FORMATS.get(name, LIVE), path, prefix) for name, path in targets.items()]
        self._lock = threading.Lock()
        self._open = True
        for output in self._outputs:
            output.write(output.format.head)

    def add(self, caption: Caption) -> None:
        """Append one caption to every output."""
        with self._lock:
            i = len(self.captions)
            self.captions.append(caption)
            for output in self._outputs:
                output.write(output.format.piece(i, caption, self._origin))

    def finish(self) -> None:
        """Complete the outputs and give the files their names. A second call does nothing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            for output in self._outputs:
                output.write(output.format.tail(self.captions, self._origin))
                output.finish()

    def discard(self) -> None:
        """Remove the unfinished files."""
        with self._lock:
            self._open = False
            for output in self._outputs:
                output.discard()


class _Output:
    def __init__(self, format: Format, path: Path | None, prefix: str) -> None:
        self.format = format
        self._path = path
        self._prefix = prefix if format in (LIVE, FORMATS["txt"]) else ""
        self._line_end = "\n" if format is FORMATS["json"] else ""
        self._file = None if path is None else _part(path)

    def write(self, text: str) -> None:
        if not text:
            return
        try:
            if self._file is None:
                sys.stdout.write(_printable(self._prefix + text + self._line_end))
                sys.stdout.flush()
            else:
                _append(self._file, text.encode("utf-8", "replace"))
        except BrokenPipeError:
            raise
        except OSError as e:
            raise _failed(self._path, e) from None

    def finish(self) -> None:
        if self._path is None or self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(_part_name(self._path), self._path)
        except OSError as e:
            raise _failed(self._path, e) from None

    def discard(self) -> None:
        if self._path is not None and self._file is not None:
            self._file.close()
            _part_name(self._path).unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the name `path` once it is whole.

    Raises:
        ResourceError: it cannot be written.
    """
    part = _part_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except BaseException as e:
        part.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise _failed(path, e) from None
        raise


def _append(file: io.FileIO, data: bytes) -> None:
    """All of `data`, or none of it: a full disk leaves the file as it was."""
    size = file.tell()
    try:
        written = 0
        while written < len(data):
            written += file.write(data[written:]) or 0
    except OSError:
        file.truncate(size)
        raise


def _part_name(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _part(path: Path) -> io.FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return io.FileIO(_part_name(path), "w")
    except OSError as e:
        raise _failed(path, e) from None


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _failed(path: Path | None, error: OSError) -> ResourceError:
    return ResourceError(f"cannot write {shown(str(path or 'standard output'))}: {error.strerror}")
