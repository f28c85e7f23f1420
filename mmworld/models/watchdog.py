"""Looks at times whether what watches a stream hangs, and says which part of it, in what, and for how long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmworld.models.events import Stall
from mmworld.models.jobs import Ask, Save, Told
from mmworld.stream.pulse import Mark, Pulse
from mmworld.types import Chunk, Gap

LOOKS = 4
"""Looks in the time after which a part counts as hanging: by one of them it is told of too late, at most."""


class Watchdog:
    """Tells once of each part that is at one thing for longer than a limit, and once when it goes on.

    Args:
        pulses: of the parts.
        limit: seconds; inf looks at nothing.
        tell: is given what is told, by the watchdog's own thread; what it raises is of no account.

    Attributes:
        stalls: what hangs now.
    """

    def __init__(self, pulses: Sequence[Pulse], limit: float, tell: Callable[[Stall], object]) -> None:
        self.stalls: tuple[Stall, ...] = ()
        self._pulses, self._limit, self._tell = pulses, limit, tell
        self._hanging: dict[Pulse, tuple[Mark, Stall]] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")
        if limit < float("inf"):
            self._thread.start()

    def look(self, now: float) -> None:
        """Tell of what hangs, and of what goes on, at `now` seconds on the machine's monotonic clock."""
        for pulse in self._pulses:
            mark = pulse.mark  # read once, as its thread goes on meanwhile
            known, told = self._hanging.get(pulse, (None, None))
            if told is not None and known is not None and mark is not known:
                del self._hanging[pulse]
                self._say(replace(told, seconds=mark.since - known.since, where="", over=True))
            if mark.about is not None and now - mark.since >= self._limit:
                stall = Stall(*named(pulse.part, mark.about), now - mark.since, where(mark.thread))
                self._hanging[pulse] = mark, stall
                if mark is not known:
                    self._say(stall)
        self.stalls = tuple(stall for _, stall in self._hanging.values())

    def close(self) -> None:
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(self._limit / LOOKS):
            self.look(time.monotonic())

    def _say(self, stall: Stall) -> None:
        with suppress(Exception):
            self._tell(stall)


def named(part: str, about: Any) -> tuple[str, str]:
    """The part, and what it is about, in words."""
    if isinstance(about, list):  # of jobs: segments, or one of something else
        if isinstance(about[0], Told):
            return part, f"[{about[0].segment.start:.3f}, {about[-1].segment.end:.3f})"
        (about,) = about
    if isinstance(about, Ask):
        return "answering", about.question
    if isinstance(about, Save):
        return "saving", str(about.path)
    if isinstance(about, Chunk | Gap):
        return part, f"{about.modality} [{about.start:.3f}, {about.end:.3f})"
    return part, about if isinstance(about, str) else type(about).__name__


def where(thread: int) -> str:
    """The innermost line of Python that a thread is in, "" if it is in none."""
    frame = sys._current_frames().get(thread)
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}" if frame else ""
