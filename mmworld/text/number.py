"""Numbers in English words."""

from __future__ import annotations

_SMALL = (
    *[
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
    ],
    *["sixteen", "seventeen", "eighteen", "nineteen"],
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def words(n: int) -> str:
    """0 to 99 in words; ValueError beyond."""
    if not 0 <= n < 100:
        raise ValueError(f"{n} is not 0 to 99")
    if n < 20:
        return _SMALL[n]
    return _TENS[n // 10 - 2] + (f"-{_SMALL[n % 10]}" if n % 10 else "")
