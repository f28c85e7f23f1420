"""Captions as text: txt, srt, vtt, tsv and json in Whisper's byte layout, jsonl and the live lines of a terminal.

Each format is what comes first, one piece a caption, and what comes last, so that every one can be written as it grows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmworld.cli.console import SCHEMA_VERSION
from mmworld.types import Caption


@dataclass(frozen=True)
class Origin:
    """What every JSON records beside the captions."""

    source: str
    model: str
    revision: str
    seed: int


def _no_tail(captions: Sequence[Caption], origin: Origin) -> str:
    return ""


@dataclass(frozen=True)
class Format:
    """`head`, then `piece(i, caption, origin)` for each caption from 0 up, then `tail(captions, origin)`."""

    head: str
    piece: Callable[[int, Caption, Origin], str]
    tail: Callable[[Sequence[Caption], Origin], str] = _no_tail


def clock(seconds: float, *, hours: bool = False, point: str = ".") -> str:
    """[HH:]MM:SS.mmm, hours where there are any or `hours` asks for them."""
    milliseconds = round(seconds * 1000)
    h, milliseconds = divmod(milliseconds, 3_600_000)
    m, milliseconds = divmod(milliseconds, 60_000)
    s, milliseconds = divmod(milliseconds, 1000)
    return (f"{h:02d}:" if hours or h else "") + f"{m:02d}:{s:02d}{point}{milliseconds:03d}"


def live(i: int, caption: Caption, origin: Origin) -> str:
    """The line Whisper prints while it works."""
    return f"[{clock(caption.start)} --> {clock(caption.end)}]  {_line(caption)}\n"


def segment(i: int, caption: Caption) -> dict[str, Any]:
    """A caption as Whisper's JSON segment."""
    times = {"start": round(caption.start, 3), "end": round(caption.end, 3)}
    words = [{"word": w.text, "start": round(w.start, 3), "end": round(w.end, 3)} for w in caption.words]
    said = {"id": i, **times, "text": _line(caption), "avg_logprob": round(caption.score, 4)}
    return said | ({"words": words} if words else {})


def _line(caption: Caption) -> str:
    return " ".join(caption.text.split())


def _cue(caption: Caption, *, hours: bool, point: str) -> str:
    start, end = (clock(t, hours=hours, point=point) for t in (caption.start, caption.end))
    return f"{start} --> {end}\n{_line(caption).replace('-->', '->')}\n\n"


def _srt(i: int, caption: Caption, origin: Origin) -> str:
    return f"{i + 1}\n" + _cue(caption, hours=True, point=",")


def _vtt(i: int, caption: Caption, origin: Origin) -> str:
    return _cue(caption, hours=False, point=".")


def _tsv(i: int, caption: Caption, origin: Origin) -> str:
    return f"{round(1000 * caption.start)}\t{round(1000 * caption.end)}\t{_line(caption)}\n"


def _json(captions: Sequence[Caption], origin: Origin) -> str:
    segments = [segment(i, c) for i, c in enumerate(captions)]
    text = " ".join(s["text"] for s in segments)
    language = next((c.language for c in captions if c.language), "en")
    about = {"language": language, **vars(origin), "schema_version": SCHEMA_VERSION}
    return json.dumps({"text": text, "segments": segments, **about})


def _jsonl(i: int, caption: Caption, origin: Origin) -> str:
    return json.dumps({**segment(i, caption), **vars(origin), "schema_version": SCHEMA_VERSION}) + "\n"


FORMATS = {
    "txt": Format("", lambda i, caption, origin: _line(caption) + "\n"),
    "srt": Format("", _srt),
    "vtt": Format("WEBVTT\n\n", _vtt),
    "tsv": Format("start\tend\ttext\n", _tsv),
    "json": Format("", lambda i, caption, origin: "", _json),
    "jsonl": Format("", _jsonl),
}
LIVE = Format("", live)
