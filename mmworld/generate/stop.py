"""When a text is complete."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stop:
    """<eos> always ends a text; so does what is named here.

    Attributes:
        max_tokens: longest text, in ids.
        texts: strings that end it; the first found and what follows are not part of it.
    """

    max_tokens: int = 48
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, is {self.max_tokens}")

    def cut(self, text: str) -> str | None:
        """`text` up to the first stop string, or None if it holds none."""
        found = [at for s in self.texts if (at := text.find(s)) >= 0]
        return text[: min(found)] if found else None


STOP = Stop()
