"""Batch k of a run is a function of (seed, k) alone: that is what makes resuming exact."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from mmworld.models.world import Item
from mmworld.text.tokenizer import Tokenizer
from mmworld.train.sources import Draw
from mmworld.types import Chunk


@dataclass(frozen=True)
class Example:
    """An item of a source, and its weight in the loss of a batch: the root of its length over the number of captions of
    what it shows."""

    source: str
    caption: str
    item: Item
    weight: float


@dataclass(frozen=True)
class Batches:
    """Items of several sources, in the shares that `shares` gives for batch k."""

    sources: Mapping[str, Draw]
    shares: Callable[[int], Mapping[str, float]]
    tokenizer: Tokenizer
    seed: int
    size: int

    def __call__(self, k: int, rank: int = 0, ranks: int = 1) -> list[Example]:
        """Batch k, or the part of it that process `rank` of `ranks` takes."""
        names = list(self.sources)
        now = self.shares(k)
        shares = np.array([now.get(n, 0.0) for n in names])
        drawn = np.random.default_rng((self.seed, k)).choice(len(names), self.size, p=shares / shares.sum())
        # Dealt out in the order of the sources, so that the processes have about equally much to do.
        mine = np.argsort(drawn, kind="stable")[rank::ranks]
        return [e for i in mine for e in self._examples(names[drawn[i]], np.random.default_rng((self.seed, k, i)))]

    def _examples(self, name: str, rng: np.random.Generator) -> list[Example]:
        media = self.sources[name](rng)
        return [self._example(name, media.chunks, caption, len(media.captions)) for caption in media.captions]

    def _example(self, name: str, chunks: tuple[Chunk, ...], caption: str, of: int) -> Example:
        ids = (self.tokenizer.bos, *self.tokenizer.encode(caption), self.tokenizer.eos)
        return Example(name, caption, Item(chunks, ids), math.sqrt((len(ids) - 1) / of))


@dataclass(frozen=True)
class Stretch(Dataset[list[Example]]):
    """A process's part of batches `first` to `last` - 1, as a dataset."""

    batches: Batches
    first: int
    last: int
    rank: int
    ranks: int

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> list[Example]:
        return self.batches(self.first + i, self.rank, self.ranks)


def loader(stretch: Stretch) -> DataLoader[list[Example]]:
    """The batches in order, made ahead in a process of their own: a thread would hold up the step, which needs the
    interpreter between any two kernels."""
    return DataLoader(
        stretch,
        batch_size=None,
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=outlive,
        multiprocessing_context="fork",  # the sets and their memory maps are shared
    )


def outlive(*_: Any) -> None:
    """Ignore signals to stop, which go to the whole group: the process that started the run hears them, and until it
    ends, its steps must be made and its batches come."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
