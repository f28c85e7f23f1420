"""When a stream was spoken of, against when it should have been: times, silence, and the words at the right time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmworld.evaluate.metrics import tokenize
from mmworld.stream.answers import answered
from mmworld.types import Caption


@dataclass(frozen=True)
class Timing:
    """
    Attributes:
        precision: share of what was said that was said within the tolerance of an event that nothing else answers.
        recall: share of events that were answered so.
        time_difference: mean seconds from an event to what was said nearest to it, at most those to the events beside
            it (TimeDiff in Chen et al. 2024, VideoLLM-online, section 4.1, whose turns end with the events).
        silence: share of steps in which nothing was said.
        fluency: mean share of a turn's decisions that are right before the first wrong one (the same section): to be
            silent in each step before the event, to speak, and each word of what is then said.
    """

    precision: float
    recall: float
    time_difference: float
    silence: float
    fluency: float


def timing(said: Sequence[Caption], true: Sequence[Caption], *, tolerance: float = 1.0, step: float = 0.5) -> Timing:
    """How well captions of one stream, each said at its end, fit the true ones. In the paper a model is shown the true
    past before each turn; here the stream runs freely, and what answers an event is told by its time.

    Args:
        said, true: in the order of their ends; the first true one begins where the stream does. Where a true one has
            no text, only the time counts.
        tolerance: seconds before or after an event in which it is answered.
        step: seconds in which once can be spoken.

    Raises:
        ValueError: there is nothing to be said.
    """
    if not true:
        raise ValueError("no events to measure against")
    answers = answered(said, true, tolerance)
    begin, end = true[0].start, max(c.end for c in (*said, *true))
    steps = max(round((end - begin) / step), 1)
    spoken = {int((c.end - begin) / step + 1e-6) for c in said}
    return Timing(
        len(answers) / len(said) if said else 0.0,
        len(answers) / len(true),
        _difference([c.end for c in said], [begin, *(c.end for c in true)]),
        1 - min(len(spoken) / steps, 1.0),
        float(np.mean(_fluencies(said, true, answers, tolerance, step))),
    )


def _difference(said: Sequence[float], edges: Sequence[float]) -> float:
    apart = np.diff(edges)
    most = np.minimum(apart, [*apart[1:], np.inf])
    times = np.array([*said, np.inf])
    return float(np.mean([min(np.abs(times - t).min(), m) for t, m in zip(edges[1:], most, strict=True)]))


def _fluencies(
    said: Sequence[Caption], true: Sequence[Caption], answers: dict[int, int], tolerance: float, step: float
) -> list[float]:
    others = [c.end for i, c in enumerate(said) if i not in answers.values()]
    before, out = true[0].start, []
    for j, event in enumerate(true):
        steps, words = max(round((event.end - before) / step), 1), tokenize(event.text)
        early = [t for t in others if before < t < event.end - tolerance]
        if early:
            right = min(int((early[0] - before) / step), steps - 1)
        elif j in answers:
            right = steps + _same(tokenize(said[answers[j]].text), words)
        else:
            right = steps - 1
        out.append(right / (steps + len(words)))
        before = event.end
    return out


def _same(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two texts begin with alike."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
