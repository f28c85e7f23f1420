"""Point clouds over time: a folder or glob of clouds, or a recording in one NPZ, as a stream of sweeps."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.media.npy import read_npz, seekable
from mmworld.media.order import natural
from mmworld.modalities.pointcloud.readers import SUFFIXES, Cloud, read_cloud
from mmworld.modalities.pointcloud.readers.npy import npz_columns
from mmworld.modalities.pointcloud.readers.scan import canvas
from mmworld.modalities.pointcloud.sampling import sample_mesh
from mmworld.types import Source

if TYPE_CHECKING:
    from mmworld.media.gate import Media

Sweep = tuple[float, float, Tensor]
MAX_SWEEPS = 1_000_000
MESH_POINTS = 16_384
_NOT_ALONE = {".txt", ".bin", ".npz"}  # in a folder these are as often labels, weights or anything


def read_sweeps(source: Source | Media, hop: float) -> Iterator[Sweep]:
    """Sweeps (start, end, points float32 [P, 11]) of `hop` seconds that tile time; P may be 0.

    A folder's or glob's clouds are sweeps in the order of their names (numbers by value), the i-th beginning at
    i * hop. A recording (NPZ with `t`, and `frame` if points of one frame must stay together) is cut at
    t[0] + i * hop. Any other cloud is one sweep at 0. A mesh is 16,384 points spread over its surface.

    Raises:
        MediaError: see `read_cloud`; "clock" if a recording's times are not finite and in order.
        LimitError: more than a million sweeps.
    """
    if not hop > 0:
        raise ValueError(f"hop must be positive, got {hop}")
    if isinstance(source, str | os.PathLike) and (paths := _paths(os.fspath(source))) is not None:
        for i, path in enumerate(paths):
            yield i * hop, (i + 1) * hop, _surface(read_cloud(path))
        return
    from mmworld.media.gate import open_media

    media = open_media(source)
    if media.format.reader == "npz":
        with media.open() as file:
            arrays = read_npz(seekable(file, media.name), media.name)
        if "t" in arrays:
            yield from cut(arrays, media.name, hop)
            return
    yield 0.0, hop, _surface(read_cloud(media))


def _surface(cloud: Cloud) -> Tensor:
    """A cloud's points; of a mesh, points spread over it."""
    return cloud.points if cloud.faces is None else sample_mesh(cloud.points, cloud.faces, MESH_POINTS)


def _paths(source: str) -> list[Path] | None:
    """The clouds of a folder or glob; None if `source` is neither."""
    if os.path.isdir(source):
        wanted = SUFFIXES.keys() - _NOT_ALONE
        found = [p for p in Path(source).iterdir() if p.suffix.lower() in SUFFIXES]
        found = [p for p in found if p.suffix.lower() in wanted] or found
    elif glob.has_magic(source) and not os.path.exists(source):
        found = [Path(p) for p in glob.iglob(source)]
    else:
        return None
    if not found:
        raise SourceError("missing", f"{source}: no point clouds there", hint=f"known: {', '.join(SUFFIXES)}")
    if len(found) > MAX_SWEEPS:
        raise LimitError("limit", f"{source}: {len(found)} files, the limit is {MAX_SWEEPS}")
    return sorted(found, key=lambda p: natural(p.name))


def cut(arrays: dict[str, NDArray[Any]], name: str, hop: float) -> Iterator[Sweep]:
    """Cut a recording, whose arrays have a row for each point, into sweeps of `hop` seconds."""
    points, good = canvas(npz_columns(arrays, name))
    t = _times(arrays, len(good), name)[good]
    if len(t) == 0:
        return
    n = (t[-1] - t[0]) // hop + 1
    if n > MAX_SWEEPS:
        raise LimitError("limit", f"{name}: {n:.0f} sweeps of {hop} s, the limit is {MAX_SWEEPS}", hint="a longer hop")
    starts = t[0] + np.arange(n + 1) * hop
    edges = np.searchsorted(t, starts)
    edges[-1] = len(t)
    data = torch.from_numpy(points)
    for i in range(int(n)):
        yield float(starts[i]), float(starts[i + 1]), data[edges[i] : edges[i + 1]]


def _times(arrays: dict[str, NDArray[Any]], n: int, name: str) -> NDArray[np.float64]:
    """The time of each point: its frame's first, so that a frame is never cut in two."""
    t = arrays["t"]
    frame = arrays.get("frame", np.arange(n))
    if t.shape != (n,) or frame.shape != (n,) or t.dtype.names or frame.dtype.names:
        raise MediaError("format", f"{name}: t {t.shape} and frame {frame.shape} beside {n} points")
    t = t.astype(np.float64)
    if not (np.isfinite(t).all() and (np.diff(t) >= 0).all() and np.abs(t).max(initial=0) < 1e11):
        raise MediaError("clock", f"{name}: times that are not finite or go back")
    first = np.concatenate([[True], frame[1:] != frame[:-1]])[:n]
    return t[np.maximum.accumulate(np.where(first, np.arange(n), 0))]
