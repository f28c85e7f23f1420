"""What a stream that is watched says: captions, gaps, faults and answers; counted, and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmworld.errors import MediaError, MMWorldError
from mmworld.models.provisional import Provisional
from mmworld.types import Caption, Gap, Moment

STALL = 30.0
"""Seconds at one thing after which a part counts as hanging."""


@dataclass(frozen=True)
class Failure:
    """An input that could not be captioned, or not to its end."""

    source: str
    error: MMWorldError


@dataclass(frozen=True)
class Answer:
    """What was answered to a question.

    Attributes:
        time: seconds on the stream's clock at which it was asked.
        score: mean log-probability of its ids.
        moments: what had been told before, of all that is remembered, that fits the question, the best first; each
            with what is answered from what is kept of it alone.
    """

    question: str
    text: str
    time: float
    score: float
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True)
class Stall:
    """A part that makes no progress though there is something for it to do, or that goes on after that. It is of this
    run alone: a run that is gone on with does not say it again.

    Attributes:
        part: a stable word: "source" (what is live is silent), "reading", "perceiving", "speaking", "answering",
            "saving", "consumer" (who reads the events does not come for the next).
        of: what of: the source, the chunk, the segment, the question, the file, the event.
        seconds: for how long by now; where it is over, in all, to a quarter of the limit.
        where: the innermost line of Python that its thread is in, "file:line function"; "" if it is in none.
        over: it goes on.
    """

    part: str
    of: str
    seconds: float
    where: str = ""
    over: bool = False

    def __str__(self) -> str:
        what = self.of if self.part == "source" else f"{self.part} {self.of}"
        if self.over:
            return f"{what}: goes on after {self.seconds:.0f} s"
        how = "nothing came" if self.part == "source" else "no progress"
        return f"{what}: {how} for {self.seconds:.0f} s" + (f" ({self.where})" if self.where else "")


Event = Caption | Provisional | Gap | Failure | Answer | Stall


@dataclass(frozen=True)
class Count:
    """How many events that `repeats` holds of were told, and how many captions of them."""

    events: int = 0
    captions: int = 0

    def with_(self, event: Any) -> Count:
        """This, and one event more."""
        return Count(self.events + repeats(event), self.captions + isinstance(event, Caption))


def repeats(event: Any) -> bool:
    """Whether the same stream says it again: an answer comes of a question alone, and a stall of one run."""
    return isinstance(event, Caption | Provisional | Gap | Failure)


def plain(event: Caption | Provisional | Gap | Failure | Stall) -> dict[str, Any]:
    """An event as JSON takes it."""
    if isinstance(event, Failure):
        return {"event": "Failure", "source": event.source, "message": str(event.error)}
    return {"event": type(event).__name__, **asdict(event)}


def event(said: Mapping[str, Any]) -> Caption | Provisional | Gap | Failure:
    """The event that `plain` wrote; of a fault, its message alone."""
    kind, values = said["event"], {n: x for n, x in said.items() if n != "event"}
    if kind == "Failure":
        return Failure(values["source"], MediaError("fault", values["message"]))
    if kind == "Provisional":
        return Provisional(Caption(**values["caption"] | {"words": ()}), values["settled"])
    return Gap(**values) if kind == "Gap" else Caption(**values | {"words": ()})
