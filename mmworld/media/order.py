"""The order of names in which numbers count as such."""

from __future__ import annotations

import re


def natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by: frame2 before frame10, and no two alike."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]
