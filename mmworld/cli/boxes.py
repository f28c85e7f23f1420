"""Draws a picture with the boxes of what a text speaks of, and the text below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmworld.cli.plot import TRACES
from mmworld.cli.spans import INK, LINE, PAPER, SIZE, width, wrap
from mmworld.cli.transcript import replacing
from mmworld.text.grounding import Box, Grounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

LONGEST, LEAST, MARGIN = 8.0, 2.5, 0.1
"""Inches: of the picture's longer side, of its shorter one at least, around it."""
INSET, TALL, EPSILON = 0.05, LINE + 0.06, 1e-6
"""Inches: from a box to its phrase, from one phrase to the next below it, and what is none."""
Mark = tuple[Box, str, str]
"""A box, its phrase, their colour."""


def draw(picture: Tensor, found: Grounded, path: Path) -> None:
    """Write a picture uint8 [3, H, W] with its boxes to `path`, whose suffix says the format: png, svg, pdf.

    Raises:
        ResourceError: the file cannot be written.
    """
    figure = compose(picture, found)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower())


def compose(picture: Tensor, found: Grounded) -> Figure:
    """The same as a matplotlib Figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    high, wide = picture.shape[1:]
    across, down = (max(LEAST, LONGEST * n / max(high, wide)) for n in (wide, high))
    lines = wrap(found.text, across)
    whole = across + 2 * MARGIN, down + LINE * len(lines) + 3 * MARGIN
    figure = Figure(figsize=whole, dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    left, bottom = MARGIN / whole[0], 1 - (MARGIN + down) / whole[1]
    axes = figure.add_axes((left, bottom, across / whole[0], down / whole[1]))
    axes.set_axis_off()
    axes.imshow(picture.permute(1, 2, 0).numpy(), extent=(0, 1, 1, 0), aspect="auto")
    marks = [(box, e.phrase, TRACES[i % len(TRACES)]) for i, e in enumerate(found.entities) for box in e.boxes]
    for (box, phrase, colour), at in zip(marks, places(marks, across, down), strict=True):
        _mark(axes, box, phrase, colour, (at[0] / across, at[1] / down))
    below = bottom - MARGIN / whole[1]
    figure.text(left, below, "\n".join(lines), size=SIZE, color=INK, va="top", parse_math=False)
    return figure


def places(marks: Sequence[Mark], across: float, down: float) -> list[tuple[float, float]]:
    """Where the phrases stand, from the left and the top, in inches of a picture: inside their boxes at the corner, or
    lower, where others stand there, and not beyond the right side."""
    taken: list[tuple[float, float, float]] = []
    for (left, top, right, bottom), phrase, _ in marks:
        room = width(phrase) + 2 * INSET
        x = max(0.0, min(min(left, right) * across, across - room))
        y = min(top, bottom) * down
        while below := [b for a, b, n in taken if a < x + room and x < a + n and abs(b - y) < TALL - EPSILON]:
            y = max(below) + TALL
        taken.append((x, y, room))
    return [(x + INSET, y + INSET) for x, y, _ in taken]


def _mark(axes: Any, box: Box, phrase: str, colour: str, at: tuple[float, float]) -> None:
    """A box, whichever of its corners comes first, and its phrase."""
    from matplotlib.patches import Rectangle

    (left, right), (top, bottom) = sorted(box[::2]), sorted(box[1::2])
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=2))
    shade = {"facecolor": colour, "edgecolor": "none", "pad": 2}
    axes.text(*at, phrase, size=SIZE, color=PAPER, va="top", bbox=shade, parse_math=False, clip_on=True)
