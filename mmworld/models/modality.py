"""What the core asks of a modality adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from mmworld.types import Chunk, Source, Tokens


class Modality(Protocol):
    """An adapter: I/O in `open`, weights in `encode`."""

    name: str
    hop: float
    rate: float | None
    dim: int

    def open(self, source: Source, **options: Any) -> Iterator[Chunk]: ...

    def init_state(self) -> Any: ...

    def encode(self, chunk: Chunk, state: Any = None) -> Tokens: ...


def encode_many(modality: Any, chunks: Sequence[Chunk]) -> list[Tokens]:
    """Each chunk as a whole stream of its own, packed where the modality knows how."""
    if hasattr(modality, "encode_many"):
        return modality.encode_many(chunks)
    return [modality.encode(c) for c in chunks]
