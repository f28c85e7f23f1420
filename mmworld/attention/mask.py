"""Which token sees which. Token i sees token j iff they share a segment and block(j) <= block(i)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclass(frozen=True)
class Mask:
    """A visibility rule; hashable, so lowerings of it can be cached.

    Attributes:
        kind: "full" (all see all), "causal" (each token is its own block), "blocks".
        blocks: sizes of the key blocks in order, over the whole packed row; only with kind "blocks".
        window: a query sees its own block and the `window - 1` blocks before it; None is no limit.
        sinks: the first blocks of each segment that stay visible whatever the window.
        lengths: query tokens of each packed segment; None is one segment.
        key_lengths: key tokens of each segment; None is the same as `lengths`. The queries are the last of the keys.
    """

    kind: Literal["full", "causal", "blocks"] = "full"
    blocks: tuple[int, ...] | None = None
    window: int | None = None
    sinks: int = 0
    lengths: tuple[int, ...] | None = None
    key_lengths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "blocks") != (self.blocks is not None):
            raise ValueError(f"kind {self.kind!r} and blocks={self.blocks} do not go together")
        if self.kind == "full" and (self.window is not None or self.sinks):
            raise ValueError("window and sinks need kind 'causal' or 'blocks'")
        if (self.window is not None and self.window < 1) or self.sinks < 0:
            raise ValueError(f"window must be >= 1 and sinks >= 0, got {self.window} and {self.sinks}")
        if self.key_lengths is not None and (self.lengths is None or len(self.lengths) != len(self.key_lengths)):
            raise ValueError("key_lengths needs lengths, one for each segment")

    def segments(self, n_queries: int, n_keys: int) -> list[tuple[slice, slice, Mask]]:
        """(queries, keys, rule) of each packed segment; the rule speaks of that segment alone.

        Raises:
            ValueError: lengths or blocks do not sum to the number of tokens.
        """
        q_lengths = self.lengths if self.lengths is not None else (n_queries,)
        k_lengths = self.key_lengths or (self.lengths if self.lengths is not None else (n_keys,))
        if sum(q_lengths) != n_queries or sum(k_lengths) != n_keys:
            raise ValueError(f"lengths sum to {sum(q_lengths)} and {sum(k_lengths)}, not {n_queries} and {n_keys}")
        per_segment = self._split_blocks(k_lengths)
        q_ends, k_ends = accumulate(q_lengths), accumulate(k_lengths)
        return [
            (slice(qe - q, qe), slice(ke - k, ke), replace(self, blocks=b, lengths=None, key_lengths=None))
            for q, k, qe, ke, b in zip(q_lengths, k_lengths, q_ends, k_ends, per_segment, strict=True)
        ]

    def _split_blocks(self, k_lengths: tuple[int, ...]) -> list[tuple[int, ...] | None]:
        if self.blocks is None:
            return [None] * len(k_lengths)
        out: list[tuple[int, ...] | None] = []
        rest = list(self.blocks)
        for n in k_lengths:
            mine: list[int] = []
            while sum(mine) < n and rest:
                mine.append(rest.pop(0))
            if sum(mine) != n:
                raise ValueError(f"blocks {self.blocks} do not tile the segments {k_lengths}")
            out.append(tuple(mine))
        if any(rest):
            raise ValueError(f"blocks {self.blocks} do not tile the segments {k_lengths}")
        return out

    def dense(self, n_queries: int, n_keys: int, device: device | str | None = None) -> Tensor:
        """The rule as bool [n_queries, n_keys], True where the query sees the key. The oracle of every lowering."""
        import torch

        out = torch.zeros(n_queries, n_keys, dtype=torch.bool, device=device)
        for queries, keys, rule in self.segments(n_queries, n_keys):
            out[queries, keys] = rule._dense_segment(queries.stop - queries.start, keys.stop - keys.start, device)
        return out

    def _dense_segment(self, n_queries: int, n_keys: int, device: device | str | None) -> Tensor:
        import torch

        if self.kind == "full":
            return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
        if n_queries > n_keys:
            raise ValueError(f"{self.kind}: the {n_queries} queries must be the last of the {n_keys} keys")
        sizes = torch.tensor(self.blocks if self.blocks is not None else [1] * n_keys, dtype=torch.long, device=device)
        block = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
        q, k = block[n_keys - n_queries :, None], block[None, :]
        seen = k <= q
        if self.window is not None:
            seen &= (k > q - self.window) | (k < self.sinks)
        return seen


FULL = Mask()
CAUSAL = Mask("causal")
