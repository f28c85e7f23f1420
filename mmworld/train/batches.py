"""Batch k of a run is a function of (seed, k) alone: that is what makes resuming exact."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Dataset

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


@dataclass(frozen=True)
class Stretch(Dataset[list[Example]]):
    """Batches `first` to `last` - 1, as a dataset."""

    batches: Batches
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, i: int) -> list[Example]:
        return self.batches(self.first + i)


def loader(batches: Batches, first: int, last: int) -> DataLoader[list[Example]]:
    """Batches `first` to `last` - 1 in order, made ahead in a process of their own: a thread would hold up the step,
    which needs the interpreter between any two kernels."""
    return DataLoader(
        Stretch(batches, first, last),
        batch_size=None,
        num_workers=1,
        prefetch_factor=4,
        worker_init_fn=_outlive,
        multiprocessing_context="fork",  # the sets and their memory maps are shared
    )


def _outlive(_: int) -> None:
    """A signal to stop goes to the whole group: the run ends its step and saves, so its batches must still come."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
