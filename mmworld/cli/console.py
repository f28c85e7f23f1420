"""What people see on stderr: one-line messages, and progress as a bar or as JSON. Results never come here."""

from __future__ import annotations

import json
import sys
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
    """How far each input is, while inside `with`.

    Args:
        kind: "auto" (bars on a terminal), "json" (one object a line) or "none".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> None:
        if self.kind == "auto" and sys.stderr is not None and sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()

    def __exit__(self, *exception: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, source: str, duration: float | None) -> None:
        """The work on one input of `duration` seconds (None: unknown) begins."""
        self._event("start", source=source, duration=duration)
        if self._bars is not None:
            self._tasks[source] = self._bars.add_task(shown(source, 40), total=duration)

    def at(self, source: str, time: float) -> None:
        """`time` seconds of the input are captioned."""
        self._event("progress", source=source, time=round(time, 3))
        if source in self._tasks:
            self._bars.update(self._tasks[source], completed=time)

    def done(self, source: str, captions: int) -> None:
        """The input is finished."""
        self._event("end", source=source, captions=captions)
        if source in self._tasks:
            self._bars.remove_task(self._tasks.pop(source))

    def failed(self, source: str, error: Exception) -> None:
        """The input could not be used, or not all of it."""
        message = shown(str(error))
        self._event("error", source=source, message=message)
        if self.kind != "json":
            say(message if source in message else f"{source}: {message}")

    def _event(self, event: str, **values: object) -> None:
        if self.kind == "json" and sys.stderr is not None:
            _write(json.dumps({"event": event, **values}) + "\n")


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} s"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


def report(text: str, document: dict[str, Any], *, as_json: bool) -> None:
    """A verb's result on stdout: text for people, or one JSON document."""
    print(json.dumps({"schema_version": SCHEMA_VERSION, **document}) if as_json else text)
