"""What a watched stream says, on its way to files: a line or cue at a time, each whole, none ever taken back."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from mmworld.cli.console import SCHEMA_VERSION, shown
from mmworld.cli.formats import FORMATS, Origin, segment
from mmworld.errors import ResourceError, UsageError
from mmworld.models.events import Failure, Stall, repeats
from mmworld.models.provisional import Provisional
from mmworld.types import Caption, Gap

SUFFIXES = ("jsonl", "srt", "vtt", "txt", "tsv")
"""Of the files that can grow for days."""


def record(event: Any, i: int, origin: Origin) -> dict[str, Any]:
    """An event as one JSON object; `i` counts those before it that are said again by a run that is gone on with."""
    about = {**vars(origin), "schema_version": SCHEMA_VERSION}
    if isinstance(event, Caption):
        return {"event": "caption", **segment(i, event), "confidence": round(event.confidence, 4), **about}
    if isinstance(event, Provisional):
        sure = {"settled": event.settled, "confidence": round(event.caption.confidence, 4)}
        return {"event": "provisional", **segment(i, event.caption), **sure, **about}
    if isinstance(event, Gap):
        times = {"start": round(event.start, 3), "end": round(event.end, 3)}
        return {"event": "gap", **times, "modality": event.modality, "reason": event.reason, **about}
    if isinstance(event, Failure):
        return {"event": "fault", "of": event.source, "message": str(event.error), **about}
    if isinstance(event, Stall):
        what = {"part": event.part, "of": event.of, "seconds": round(event.seconds, 3)}
        return {"event": "stall", **what, "where": event.where, "over": event.over, **about}
    moments = [
        {"start": round(m.start, 3), "end": round(m.end, 3), "text": m.text, "seen": m.seen} for m in event.moments
    ]
    answer = {"time": round(event.time, 3), "question": event.question, "text": event.text, "moments": moments}
    sure = {"avg_logprob": round(event.score, 4), "confidence": round(math.exp(event.score), 4)}
    return {"event": "answer", **answer, **sure, **about}


class Journal:
    """One file that grows. A process that goes on from an older state says again what it had said since; what is in
    the file already is not written twice.

    Args:
        path: its suffix, of SUFFIXES, is its format. A last line that a power failure cut short is taken out.
        before: of what the format has, how much had been said by the state that is gone on from; what is written
            beyond is said again. `inf` if it is not, as the source did not wait; None if nothing is gone on with.

    Raises:
        UsageError: the suffix is another, or the file is there and nothing is gone on with.
        ResourceError: it cannot be written.
    """

    def __init__(self, path: Path, origin: Origin, before: float | None = None) -> None:
        self.kind = path.suffix.removeprefix(".")
        if self.kind not in SUFFIXES:
            raise UsageError(f"{shown(str(path))}: not one of .{', .'.join(SUFFIXES)}")
        if path.exists() and before is None:
            raise UsageError(f"{shown(str(path))} exists", hint="another -o, or --state with the state it belongs to")
        self._path, self._origin = path, origin
        self.there = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._repair()
        except OSError as e:
            raise self._failed(e) from None
        self._next = self.there if before == math.inf else int(before or 0)
        if self.there == 0 and os.fstat(self._file).st_size == 0:
            self._append(FORMATS[self.kind].head)

    def add(self, event: Any) -> None:
        """Append an event, if the format has it and the file has not."""
        if self.kind != "jsonl" and not isinstance(event, Caption):
            return
        i, self._next = self._next, self._next + repeats(event)
        if i < self.there and repeats(event):
            return
        if self.kind == "jsonl":
            self._append(json.dumps(record(event, i, self._origin)) + "\n")
        else:
            self._append(FORMATS[self.kind].piece(i, event, self._origin))

    def close(self) -> None:
        os.close(self._file)

    def _repair(self) -> None:
        """Count what is there, and cut off what is not whole."""
        end = b"\n\n" if self.kind in ("srt", "vtt") else b"\n"
        whole = at = 0
        with os.fdopen(os.dup(self._file), "rb") as file:
            held = b""
            while data := file.read(1 << 20):
                held += data
                *pieces, held = held.split(end)
                at += sum(len(p) + len(end) for p in pieces)
                whole += sum(map(self._counts, pieces))
        if held:
            os.ftruncate(self._file, at)
        self.there = whole

    def _counts(self, piece: bytes) -> bool:
        if self.kind == "jsonl":
            return not piece.startswith((b'{"event": "answer"', b'{"event": "stall"'))
        return (b"-->" in piece) if self.kind in ("srt", "vtt") else piece + b"\n" != FORMATS[self.kind].head.encode()

    def _append(self, text: str) -> None:
        """All of the text in one write, on disk, or nothing: a saved state must not know of more than the files."""
        data = text.encode("utf-8", "replace")
        size = os.fstat(self._file).st_size
        try:
            if data and os.write(self._file, data) < len(data):
                os.ftruncate(self._file, size)
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as e:
            raise self._failed(e) from None

    def _failed(self, error: OSError) -> ResourceError:
        return ResourceError(f"cannot write {shown(str(self._path))}: {error.strerror}")
