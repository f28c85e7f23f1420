"""What a stream that is watched says: captions, gaps, faults and answers; counted, and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmworld.errors import MediaError, MMWorldError
from mmworld.models.provisional import Provisional
from mmworld.types import Caption, Gap, Moment


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


Event = Caption | Provisional | Gap | Failure | Answer


@dataclass(frozen=True)
class Count:
    """How many events were told, answers left out, and how many captions of them."""

    events: int = 0
    captions: int = 0

    def with_(self, event: Any) -> Count:
        """This, and one event more."""
        return Count(self.events + repeats(event), self.captions + isinstance(event, Caption))


def repeats(event: Any) -> bool:
    """Whether the same stream says it again: an answer comes of a question alone."""
    return isinstance(event, Caption | Provisional | Gap | Failure)


def plain(event: Caption | Provisional | Gap | Failure) -> dict[str, Any]:
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
