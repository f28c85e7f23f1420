"""Batch k of a run is a function of (seed, k) alone: that is what makes resuming exact."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mmworld.models.world import Item
from mmworld.text.tokenizer import Tokenizer
from mmworld.train.sources import Draw


@dataclass(frozen=True)
class Example:
    source: str
    caption: str
    item: Item


@dataclass(frozen=True)
class Batches:
    """Items of several sources in the given shares."""

    sources: dict[str, Draw]
    shares: dict[str, float]
    tokenizer: Tokenizer
    seed: int
    size: int

    def __call__(self, k: int) -> list[Example]:
        """Batch k."""
        rng = np.random.default_rng((self.seed, k))
        names = list(self.sources)
        shares = np.array([self.shares[n] for n in names])
        drawn = rng.choice(len(names), self.size, p=shares / shares.sum())
        return [self._example(names[i], rng) for i in drawn]

    def _example(self, name: str, rng: np.random.Generator) -> Example:
        media = self.sources[name](rng)
        ids = (self.tokenizer.bos, *self.tokenizer.encode(media.caption), self.tokenizer.eos)
        return Example(name, media.caption, Item(media.chunks, ids))


@dataclass
class Prefetched:
    """Batches `first` to `last` - 1 in order, the next one made in a thread meanwhile.

    Attributes:
        waited: seconds spent waiting for data so far.
    """

    batches: Batches
    first: int
    last: int
    waited: float = 0.0

    def __iter__(self) -> Iterator[list[Example]]:
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(self.batches, self.first)
            for k in range(self.first, self.last):
                before = time.perf_counter()
                batch = coming.result()
                self.waited += time.perf_counter() - before
                if k + 1 < self.last:
                    coming = pool.submit(self.batches, k + 1)
                yield batch
