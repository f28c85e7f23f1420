"""How long what has been perceived is remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SINGLE = 0.1
"""Seconds that a block counts for where each row is one."""


@dataclass(frozen=True)
class Keep:
    """What is remembered of a stream without end: its first blocks for good, and of each sense the last seconds.

    Text that was committed is kept longer than what it is of, as a word costs one token and a picture many. What goes
    leaves in whole blocks, and what stays is read as if it had come one after the other (see `KVState`).

    Attributes:
        seconds: of each sense.
        of: of some senses, if not those.
        text: ids of text.
        sinks: first blocks; of a borrowed model the ids with which its chat begins, however many.
    """

    seconds: float = 30.0
    of: Mapping[str, float] = field(default_factory=dict)
    text: int = 512
    sinks: int = 4

    def __post_init__(self) -> None:
        if not all(s > 0 for s in (self.seconds, *self.of.values())) or self.text < 1 or self.sinks < 0:
            raise ValueError(f"seconds and text to keep must be above 0, sinks not below: {self}")

    def limits(self, world: Any, modalities: Sequence[str]) -> tuple[int, ...]:
        """Blocks of each modality, and of text."""
        hops = {n: world.adapters[n].hop or SINGLE for n in modalities}
        return (*(math.ceil(self.of.get(n, self.seconds) / hops[n]) for n in modalities), self.text)
