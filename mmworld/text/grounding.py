"""Text that says where in a picture what it speaks of is, in Kosmos-2's words (Peng et al. 2023, section 2.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass

PICTURE, END = "<image>", "</image>"
"""What stands around a picture's tokens."""
GROUNDING = "<grounding>"
"""What asks for boxes."""
SIDE = 32
"""Cells of a picture in a row, and rows: a box is two of them, its first and its last."""
_CELLS = r"<patch_index_(\d+)><patch_index_(\d+)>"
_AND = "</delimiter_of_multi_objects/>"
_ENTITY = re.compile(rf"(?:<phrase>([^<]+)</phrase>)?<object>({_CELLS}(?:{_AND}{_CELLS})*)</object>")
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, as shares of the picture's sides."""


@dataclass(frozen=True)
class Entity:
    """Something that a text speaks of, and where it is.

    Attributes:
        phrase: what the text calls it; the names of its cells where the text gives it none.
        span: where in the text the phrase stands.
        boxes: each of what the phrase means.
    """

    phrase: str
    span: tuple[int, int]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Grounded:
    """A text, and where in the picture what it speaks of is."""

    text: str
    entities: tuple[Entity, ...]


def asked(phrase: str | None) -> str:
    """The beginning of a text that says where a phrase is; None begins one that tells of the whole picture."""
    return f"{GROUNDING} An image of" if phrase is None else f"{GROUNDING}<phrase> {phrase.strip()}</phrase>"


def parse(text: str) -> Grounded:
    """A text with tags as plain text, and what it speaks of in its order. What stands before `END` is left out."""
    text = text.rpartition(END)[2]
    plain = _plain(text)
    shift = len(plain) - len(plain.lstrip())
    return Grounded(plain.strip(), tuple(e for found in _ENTITY.finditer(text) for e in _entities(found, text, shift)))


def box(first: int, last: int) -> Box:
    """The box from the cell `first` to the cell `last`, counted row by row: from middle to middle of them, or from edge
    to edge where they are in one row or column."""
    (top, left), (bottom, right) = divmod(first, SIDE), divmod(last, SIDE)
    near, far = (0, 1) if top == bottom or left == right else (0.5, 0.5)
    return (left + near) / SIDE, (top + near) / SIDE, (right + far) / SIDE, (bottom + far) / SIDE


def _entities(found: re.Match[str], text: str, shift: int) -> list[Entity]:
    """What one place of the text names: of what has no name each box by itself."""
    pairs = [(int(a), int(b)) for a, b in re.findall(_CELLS, found[2])]
    if found[1] is None:
        at = len(_plain(text[: found.start()])) - shift
        return [Entity(f"<patch_index_{a}><patch_index_{b}>", (at, at), (box(a, b),)) for a, b in pairs]
    phrase = found[1]
    start, end = (len(_plain(text[:at])) - shift for at in found.span(1))
    start, end = start + len(phrase) - len(phrase.lstrip()), end - len(phrase) + len(phrase.rstrip())
    return [Entity(phrase.strip(), (start, end), tuple(box(a, b) for a, b in pairs))]


def _plain(text: str) -> str:
    """Without tags."""
    return re.sub("<.*?>", "", text)
