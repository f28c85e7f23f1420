"""Where a live stream stands when it begins, or stood when it was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmworld.errors import CheckpointError
from mmworld.models import snapshot
from mmworld.models.events import Count, Event, event
from mmworld.models.provisional import Agreement
from mmworld.models.teller import Cutting, Teller
from mmworld.stream.gaps import Gaps


@dataclass
class Left:
    """What a stream goes on with.

    Attributes:
        segments: what is held of it.
        since: of each source, where each modality's stream was left; inf where it had ended.
        ended: of each source, whether its end was told.
        repaired: of each source, whether something of it had to be repaired.
        before: how much was told and dealt with.
        untold: what was told, and not dealt with.
    """

    segments: Cutting[Any]
    since: list[dict[str, float]]
    ended: list[bool]
    repaired: list[bool]
    before: Count = Count()  # noqa: RUF009 (frozen)
    untold: list[Event] = field(default_factory=list)
    gaps: Gaps = field(default_factory=Gaps)
    agreement: Agreement = field(default_factory=Agreement)


def fresh(teller: Teller[Any], names: Sequence[str], start: float, sources: int) -> Left:
    """A stream of these modalities that begins at `start` seconds."""
    since = [dict[str, float]() for _ in range(sources)]
    return Left(teller.begin(names, start), since, [False] * sources, [False] * sources)


def read(path: Path | str, teller: Teller[Any], names: Sequence[str], start: float) -> Left:
    """The stream that `Live.save` wrote to `path`.

    Raises:
        CheckpointError: the file is damaged, or of another model or other sources.
    """

    def made(values: Mapping[str, Any]) -> Left:
        if values["model"] != teller.identity or values["modalities"] != list(names):
            raise CheckpointError("was saved of another model, or of other streams")
        return Left(
            teller.restored(values, start),
            since=values["sources"],
            ended=values["ended"],
            repaired=values.get("repaired", [True for _ in values["sources"]]),  # of an older save it is not known
            before=Count(values["events"], values["captions"]),
            untold=[event(said) for said in values["untold"]],
            gaps=Gaps.restored(values.get("gaps", {})),
            agreement=snapshot.restore(Agreement(), values, "agreement"),
        )

    return snapshot.read(path, "live", made)
