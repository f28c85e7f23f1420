"""What people see on stderr: one-line messages, and progress as a bar or as JSON. Results never come here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SCHEMA_VERSION = 1
"""Of every JSON that the command line writes."""


def shown(text: str, limit: int = 400) -> str:
    """`text` on one line, safe for any terminal: control characters and undecodable bytes escaped, cut to `limit`."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(c) - 0xDC00:02x}"
    return c.encode("unicode_escape").decode("ascii")


def say(message: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        _write(f"mmworld: {shown(message)}\n")


def _write(line: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(line.encode(encoding, "backslashreplace").decode(encoding))
    sys.stderr.flush()


class Progress:
    """How far each input is. `kind`: "auto" (a bar on a terminal), "json" (one object a line), "none"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._bar: Any = None
        self._task: Any = None

    @contextmanager
    def input(self, source: str, duration: float | None) -> Iterator[None]:
        """Around the work on one input of `duration` seconds (None: unknown)."""
        self._event("start", source=source, duration=duration)
        with self._bars():
            if self._bar is not None:
                self._task = self._bar.add_task(shown(source, 40), total=duration)
            yield

    def at(self, source: str, time: float) -> None:
        """`time` seconds of the input are captioned."""
        self._event("progress", source=source, time=round(time, 3))
        if self._bar is not None:
            self._bar.update(self._task, completed=time)

    def done(self, source: str, captions: int) -> None:
        """The input is finished."""
        self._event("end", source=source, captions=captions)

    def failed(self, source: str, error: Exception) -> None:
        """The input could not be used, or not all of it."""
        self._event("error", source=source, message=shown(str(error)))
        if self.kind != "json":
            say(f"{source}: {error}" if source not in str(error) else str(error))

    def _event(self, event: str, **values: object) -> None:
        if self.kind == "json" and sys.stderr is not None:
            _write(json.dumps({"event": event, **values}) + "\n")

    @contextmanager
    def _bars(self) -> Iterator[None]:
        if self.kind != "auto" or sys.stderr is None or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} s"))
        with Bars(
            *columns,
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        ) as self._bar:
            yield
        self._bar = None


def report(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    """A verb's result on stdout: text for people, or one JSON document."""
    print(json.dumps({"schema_version": SCHEMA_VERSION, **document}) if as_json else text)
