"""The small language of rendered media: one canonical sentence for each thing rendered, so exactness can be scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmworld.types import Chunk

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 40),
    "orange": (246, 138, 24),
    "yellow": (248, 226, 44),
    "green": (40, 160, 62),
    "blue": (38, 84, 222),
    "purple": (140, 52, 180),
    "white": (246, 246, 246),
    "black": (14, 14, 16),
}
SHAPES = ("circle", "square", "triangle", "star")
SOLIDS = ("sphere", "cube", "cylinder", "cone", "torus", "pyramid", "plane")
NUMBERS = ("zero", "one", "two", "three", "four", "five")
TIMES = ("never", "once", "twice", "three times", "four times")
THEN = ", then "


@dataclass(frozen=True)
class Rendered:
    """Media, each stream one chunk, and the sentence that is true of them, or more than one."""

    chunks: tuple[Chunk, ...]
    caption: str
    others: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        return self.caption, *self.others


@dataclass(frozen=True)
class Facts:
    """What a caption claims, for exact scoring.

    Attributes:
        objects: nouns with their counts, sorted: ("circle", "star", "star").
        colours: the same with their colours: ("blue star", "blue star", "red circle").
        order: the events, in the order told.
    """

    objects: tuple[str, ...]
    colours: tuple[str, ...]
    order: tuple[str, ...]


def noun(words: str, count: int = 1) -> str:
    """ "red star" -> "a red star" or "three red stars"."""
    if count == 1:
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return f"{NUMBERS[count]} {words}s"


def join(parts: Sequence[str]) -> str:
    """Captions of several modalities as one; a caption has no final stop."""
    return ". ".join(parts)


def split(caption: str) -> list[str]:
    """What `join` made one caption of."""
    return caption.split(". ")


_NOUN = re.compile(rf"\b(an?|{'|'.join(NUMBERS[2:])}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES + SOLIDS)})s?\b")


def facts(caption: str) -> Facts:
    """What `caption` claims. Words outside the grammar count only in `order`."""
    colours: list[str] = []
    for number, colour, shape in _NOUN.findall(caption):
        count = NUMBERS.index(number) if number in NUMBERS else 1
        colours += [f"{colour} {shape}"] * count
    order = tuple(event for part in split(caption) for event in part.split(THEN))
    return Facts(tuple(sorted(c.split()[1] for c in colours)), tuple(sorted(colours)), order)
