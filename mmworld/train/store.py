"""Real sets, decoded once: rows of all samples in one memory-mapped array, so that an epoch costs no decoding."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import MediaError
from mmworld.train.shards import Sample, samples

log = logging.getLogger(__name__)

Decoded = tuple[NDArray[Any], Sequence[str]]
"""Rows [N, ...] of a sample and its captions."""
VERSION = 1
"""Of the files below; another one is decoded anew."""


@dataclass(frozen=True, eq=False)
class Store:
    """Samples of different lengths.

    Attributes:
        rows: all samples one after the other.
        ends: int64 [n], where each ends in `rows`.
        captions: for each sample.
        keys: name of each sample.
    """

    rows: NDArray[Any]
    ends: NDArray[np.int64]
    captions: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> NDArray[Any]:
        return self.rows[self.ends[i - 1] if i else 0 : self.ends[i]]

    def of(self, caption: str) -> NDArray[np.int64]:
        """Indices of the samples with this caption."""
        return np.array([i for i, c in enumerate(self.captions) if caption in c])


def cache_folder() -> Path:
    """$MMWORLD_CACHE, or mmworld in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("MMWORLD_CACHE", Path(base) / "mmworld")).expanduser()


def open_store(name: str, tars: Sequence[Path], decode: Callable[[Sample], Decoded]) -> Store:
    """The samples of `tars`, from the cache if they are there; samples that cannot be decoded are skipped and counted.

    Raises:
        SourceError, MediaError: a tar is missing or no tar, or no sample of them can be decoded.
    """
    stamp = [(p.name, p.stat().st_size if p.is_file() else 0) for p in tars]
    digest = hashlib.sha256(json.dumps([VERSION, name, stamp]).encode()).hexdigest()[:12]
    return cached(f"{name}-{digest}", lambda: (d for p in tars for d in _decode_all(p, decode)))


def cached(name: str, make: Callable[[], Iterable[tuple[str, Decoded]]]) -> Store:
    """The store kept as `name`, made of (key, (rows, captions)) first if it is not there yet."""
    folder = cache_folder() / name
    if not (folder / "index.json").is_file():
        log.info("decoding %s into %s", name, folder)
        _write(folder, make())
    index = json.loads((folder / "index.json").read_text())
    rows = np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    captions = tuple(tuple(c) for c in index["captions"])
    return Store(rows, np.array(index["ends"], np.int64), captions, tuple(index["keys"]))


def _decode_all(path: Path, decode: Callable[[Sample], Decoded]) -> Iterable[tuple[str, Decoded]]:
    bad = 0
    for sample in samples(path):
        try:
            yield sample["__key__"].decode("utf-8", "replace"), decode(sample)
        except (MediaError, KeyError, ValueError) as e:
            bad += 1
            log.warning("%s: %s: %s", path, sample["__key__"].decode("utf-8", "replace"), e)
    if bad:
        log.warning("%s: %d samples could not be decoded", path, bad)


def _write(folder: Path, decoded: Iterable[tuple[str, Decoded]]) -> None:
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    keys, all_rows, captions = [], [], []
    for key, (rows, sentences) in decoded:
        keys.append(key)
        all_rows.append(rows)
        captions.append(list(sentences))
    if not keys:
        raise MediaError("empty", f"{folder.name}: no sample could be decoded")
    part.mkdir(parents=True, exist_ok=True)
    np.save(part / "rows.npy", np.concatenate(all_rows))
    ends = np.cumsum([len(r) for r in all_rows]).tolist()
    (part / "index.json").write_text(json.dumps({"keys": keys, "ends": ends, "captions": captions}))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
