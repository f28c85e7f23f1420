"""Captions on a timeline: inside their spans where they fit, else numbered there and listed below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from mmworld.cli.formats import clock
from mmworld.types import Caption

WIDTH, LEFT, RIGHT = 14.0, 0.95, 0.35
"""Inches: of the picture and of its margins."""
INNER = WIDTH - LEFT - RIGHT
INK, FAINT, PAPER = "#1f2733", "#7c8797", "#ffffff"
COLOURS = ("#cfe3f5", "#fbe0c4", "#d5ecd4", "#e5d9f2", "#f9d5dc", "#d3eeee")
SIZE, LINE, MAX_LINES = 9, 0.165, 6
"""Points of text, inches of a line of it, lines at most inside a span."""
TEXT_AT = 1.1
"""Inches from the edge of a list's column to its text, past number and time."""

Lane = tuple[float, Callable[[Any], None]]
"""Height in inches, and what paints it on its axes."""
Listing = list[tuple[Caption, list[str]]]
"""Captions and their wrapped lines."""


def merge(captions: Sequence[Caption]) -> list[Caption]:
    """Neighbours that say the same as one."""
    merged: list[Caption] = []
    for caption in captions:
        if merged and merged[-1].text == caption.text and abs(merged[-1].end - caption.start) < 1e-6:
            caption = Caption(caption.text, merged.pop().start, caption.end)
        merged.append(caption)
    return merged


def layout(captions: Sequence[Caption], start: float, end: float) -> tuple[Lane, Listing]:
    """The lane of captions, and the list to put below it, empty if all fit into their spans."""
    inches = [INNER * (c.end - c.start or end - start) / (end - start) - 0.16 for c in captions]
    wrapped = [wrap(c.text, room) for c, room in zip(captions, inches, strict=True)]
    if all(len(lines) <= MAX_LINES and _whole(lines, c) for lines, c in zip(wrapped, captions, strict=True)):
        texts = ["\n".join(lines) for lines in wrapped]
        return (max(map(len, wrapped), default=1) * LINE + 0.3, lambda axes: _paint(axes, captions, texts, SIZE)), []
    room = INNER / _columns(len(captions)) - TEXT_AT - 0.2
    numbers = _numbers(captions, start, end)
    return (0.4, lambda axes: _paint(axes, captions, numbers, 8)), [(c, wrap(c.text, room)) for c in captions]


def wrap(text: str, inches: float) -> list[str]:
    """Lines no wider than `inches`; a word that is wider is cut."""
    lines = [""]
    for word in text.split():
        while width(word) > inches and len(word) > 1:
            cut = max(1, next((i for i in range(1, len(word)) if width(word[: i + 1]) > inches), len(word)))
            lines, word = [*[line for line in lines if line], word[:cut], ""], word[cut:]
        joined = f"{lines[-1]} {word}".strip()
        if width(joined) <= inches or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(word)
    return lines


@lru_cache(maxsize=4096)
def width(text: str) -> float:
    """Inches of `text` in the picture's font."""
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, _font(), ismath=False)[0] / 72


@lru_cache(maxsize=1)
def _font() -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(size=SIZE)


def label(axes: Any, text: str) -> None:
    """The name of a lane, left of it."""
    axes.text(-0.008, 0.5, text, transform=axes.transAxes, ha="right", va="center", size=SIZE, color=FAINT)


def listing_height(listing: Listing) -> float:
    """Inches that `write_listing` needs."""
    return max((_height(column) for column in _split(listing)), default=0.0) + 0.15 if listing else 0.0


def write_listing(figure: Any, listing: Listing, top: float, height: float) -> None:
    """Number, start and text of each caption, in columns, from `top` inches up the figure of `height` downwards."""
    n = 0
    for k, column in enumerate(_split(listing)):
        x, y = LEFT + k * INNER / _columns(len(listing)), top
        for caption, lines in column:
            colour = COLOURS[n % len(COLOURS)]
            n += 1
            box = {"facecolor": colour, "lw": 0, "pad": 1.5}
            start = clock(max(caption.start, 0.0))[:-2]
            at = {"va": "top", "transform": figure.dpi_scale_trans}
            figure.text(x + 0.3, y, str(n), size=8, weight="bold", color=INK, ha="right", bbox=box, **at)
            figure.text(x + 0.4, y, start, size=8, color=FAINT, **at)
            text = "\n".join(lines)
            figure.text(x + TEXT_AT, y, text, size=SIZE, color=INK, linespacing=1.25, parse_math=False, **at)
            y -= _height([(caption, lines)])


def _whole(lines: list[str], caption: Caption) -> bool:
    """Whether no word was cut."""
    return " ".join(lines).split() == caption.text.split()


def _paint(axes: Any, captions: Sequence[Caption], texts: Sequence[str], size: float) -> None:
    label(axes, "captions")
    end = axes.get_xlim()[1]
    for i, (caption, text) in enumerate(zip(captions, texts, strict=True)):
        last = caption.end if caption.end > caption.start else end
        axes.axvspan(caption.start, last, facecolor=COLOURS[i % len(COLOURS)], edgecolor=PAPER, linewidth=1.2)
        place = {"ha": "center", "va": "center", "transform": axes.get_xaxis_transform(), "linespacing": 1.25}
        axes.text((caption.start + last) / 2, 0.5, text, size=size, color=INK, parse_math=False, **place)


def _numbers(captions: Sequence[Caption], start: float, end: float) -> list[str]:
    """1, 2, 3…, left out where they would touch."""
    texts, free = [], -1.0
    for i, caption in enumerate(captions):
        middle = ((caption.start + caption.end) / 2 - start) * INNER / (end - start)
        half = 0.045 * len(str(i + 1)) + 0.02
        texts.append(str(i + 1) if middle - half >= free else "")
        free = middle + half if texts[-1] else free
    return texts


def _columns(n: int) -> int:
    return 1 if n <= 6 else 2 if n <= 40 else 3


def _height(column: Listing) -> float:
    return sum((len(lines) + 0.3) * LINE for _, lines in column)


def _split(listing: Listing) -> list[Listing]:
    """The columns of a list, of about equal height."""
    limit = _height(listing) / _columns(len(listing))
    columns: list[Listing] = [[]]
    for entry in listing:
        if _height(columns[-1]) + _height([entry]) / 2 > limit and len(columns) < _columns(len(listing)):
            columns.append([])
        columns[-1].append(entry)
    return columns
