"""What a suite measured, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Score:
    """One figure.

    Attributes:
        suite, name: what was measured.
        value: the higher the better.
        n: items it was measured on.
        error: standard error of `value`, where it is a mean over items.
        bar: the least value that is asked for; None asks for nothing.
        baselines: the same figure of simpler methods, on the same items.
        note: what else there is to know.
    """

    suite: str
    name: str
    value: float
    n: int
    error: float | None = None
    bar: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        return None if self.bar is None else self.value >= self.bar


def share(
    suite: str,
    name: str,
    right: Sequence[bool],
    bar: float | None = None,
    baselines: Mapping[str, float] | None = None,
    note: str = "",
) -> Score:
    """The share of items that are right."""
    p, n = float(np.mean(right)), len(right)
    return Score(suite, name, p, n, (p * (1 - p) / n) ** 0.5, bar, baselines or {}, note)


def names(caption: str, sentence: str, sentences: Iterable[str]) -> bool:
    """Whether `caption` says `sentence`, and of all `sentences` no other."""
    return [s for s in set(sentences) if s in caption] == [sentence]


def table(scores: Sequence[Score], seconds: Mapping[str, float], title: str) -> Table:
    """One row a score, suite by suite."""
    from rich.table import Table

    out = Table(title=title, title_justify="left")
    for column in ("suite", "measured", "score", "asked", "met", "baselines, notes", "items", "seconds"):
        out.add_column(column, justify="right" if column in ("score", "asked", "items", "seconds") else "left")
    before = ""
    for s in scores:
        first, before = s.suite != before, s.suite
        if first and out.row_count:
            out.add_section()
        value = f"{s.value:.3f}" + (f" ± {s.error:.3f}" if s.error is not None else "")
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[s.met]
        beside = [f"{k} {v:.3f}" for k, v in s.baselines.items()] + [s.note] * bool(s.note)
        asked = "" if s.bar is None else f"≥ {s.bar:.3f}"
        took = f"{seconds[s.suite]:.0f}" if first else ""
        out.add_row(s.suite if first else "", s.name, value, asked, met, "\n".join(beside), str(s.n), took)
    return out
