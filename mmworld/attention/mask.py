"""Which token sees which. Token i sees token j iff they share a segment and block(j) <= block(i)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclass(frozen=True)
class Mask:
    """A visibility rule; hashable, so lowerings of it can be cached.

    Attributes:
        kind: "full" (all see all), "causal" (each token is its own block), "blocks".
        blocks: sizes of the key blocks in order, over the whole packed row; only with kind "blocks". An empty block
            counts as a block that passed, once its segment has begun.
        window: a query sees its own block and the `window - 1` blocks before it; None is no limit.
        sinks: the first blocks of each segment that stay visible whatever the window.
        lengths: query tokens of each packed segment; None is one segment.
        key_lengths: key tokens of each segment; None is the same as `lengths`. The queries are the last of the keys.

    Raises:
        ValueError: the attributes do not go together.
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

    def spans(self, n_queries: int, n_keys: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Query and key tokens of each segment; ValueError if they do not sum to the tokens there are."""
        queries = (n_queries,) if self.lengths is None else self.lengths
        keys = self.key_lengths if self.key_lengths is not None else (n_keys,) if self.lengths is None else queries
        if sum(queries) != n_queries or sum(keys) != n_keys:
            raise ValueError(f"lengths sum to {sum(queries)} and {sum(keys)}, not {n_queries} and {n_keys}")
        if self.kind != "full" and any(q > k for q, k in zip(queries, keys, strict=True)):
            raise ValueError(f"{self.kind}: the queries must be the last of the keys, got {queries} of {keys}")
        return queries, keys

    def segments(self, n_queries: int, n_keys: int) -> list[tuple[int, int, Mask]]:
        """(query tokens, key tokens, rule) of each packed segment in order; the rule speaks of that segment alone.

        Raises:
            ValueError: lengths or blocks do not tile the tokens, or there are more queries than keys.
        """
        queries, keys = self.spans(n_queries, n_keys)
        if self.blocks is None:
            rules = [replace(self, lengths=None, key_lengths=None)] * len(keys)
        else:
            rules = [Mask("blocks", blocks, self.window, self.sinks) for blocks in _tile(self.blocks, keys)]
        return list(zip(queries, keys, rules, strict=True))

    def simplest(self, n_queries: int, n_keys: int) -> Mask:
        """The plainest rule that shows the last `n_queries` of one segment's `n_keys` the same keys as this one."""
        if self.kind == "full" or not n_queries:
            return FULL
        blocks = self.blocks  # of a causal rule they are thousands of ones, and every layer asks
        n_blocks, last = (n_keys, 1) if blocks is None else (len(blocks), next(filter(None, reversed(blocks))))
        windowed = self.window is not None and self.window + self.sinks < n_blocks
        if not windowed and n_queries <= last:
            return FULL
        window, sinks = (self.window, self.sinks) if windowed else (None, 0)
        if blocks is None or (n_blocks == n_keys and min(blocks) == 1):
            return Mask("causal", None, window, sinks)
        return Mask("blocks", blocks, window, sinks)

    def dense(self, n_queries: int, n_keys: int, device: device | str | None = None) -> Tensor:
        """The rule as bool [n_queries, n_keys], True where the query sees the key. The oracle of every lowering."""
        import torch

        out = torch.zeros(n_queries, n_keys, dtype=torch.bool, device=device)
        q = k = 0
        for n_q, n_k, rule in self.segments(n_queries, n_keys):
            out[q : q + n_q, k : k + n_k] = rule._dense_segment(n_q, n_k, device)
            q, k = q + n_q, k + n_k
        return out

    def _dense_segment(self, n_queries: int, n_keys: int, device: device | str | None) -> Tensor:
        import torch

        if self.kind == "full":
            return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
        block = torch.arange(n_keys, device=device)
        if self.blocks is not None:
            sizes = torch.tensor(self.blocks, dtype=torch.long, device=device)
            block = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
        q, k = block[n_keys - n_queries :, None], block[None, :]
        seen = k <= q
        if self.window is not None:
            seen &= (k > q - self.window) | (k < self.sinks)
        return seen


def _tile(blocks: tuple[int, ...], lengths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The blocks of each segment, without empty ones before its first token.

    Raises:
        ValueError: a segment does not end where a block does.
    """
    ends = {0: 0} | {end: i + 1 for i, end in enumerate(accumulate(blocks))}
    borders = [0, *accumulate(lengths)]
    if any(b not in ends for b in borders) or sum(blocks) != borders[-1]:
        raise ValueError(f"blocks {blocks} do not tile the segments {lengths}")
    return [blocks[ends[a] : ends[b]] for a, b in pairwise(borders)]


FULL = Mask()
CAUSAL = Mask("causal")
