"""A checkpoint folder as others write it: config.json, and safetensors in one file or in shards with an index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from mmap import mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import CheckpointError
from mmworld.weights.checkpoint import DTYPES, read_header, save_tensors, write_atomic

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
MAX_JSON = 64 << 20
SHARD_BYTES = 5_000_000_000


class Shards(Mapping[str, Tensor]):
    """The tensors of a folder by name, each read when it is asked for: what is held is one tensor at a time.

    Raises:
        CheckpointError: there are no weights, a shard is missing, damaged or cut (see `read_header`), the index names
            a file outside the folder, or a tensor that its shard has not.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        index = self.folder / INDEX
        listed = self._listed() if index.is_file() else None
        for path in [self.folder / WEIGHTS] if listed is None else sorted({self.folder / f for f in listed.values()}):
            self._add(path)
        held = {name: path.name for name, (path, *_) in self._places.items()}
        if listed is not None and (lost := sorted(n for n, file in listed.items() if held.get(n) != file)):
            raise CheckpointError(f"{index}: {lost[0]!r} is not in {listed[lost[0]]}")

    def __getitem__(self, name: str) -> Tensor:
        path, at, entry = self._places[name]
        first, last = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        if first == last:
            return torch.empty(entry["shape"], dtype=dtype)
        data = mmap(-1, last - first)  # which, unlike what malloc frees, goes back to the system at once
        with open(path, "rb") as file:
            file.seek(at + first)
            if file.readinto(data) != len(data):
                raise CheckpointError(f"{path}: cut within {name!r}")
        return torch.frombuffer(data, dtype=dtype).view(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def shapes(self) -> dict[str, Tensor]:
        """The tensors on the meta device: their shapes and dtypes, without reading them."""
        entries = {name: entry for name, (*_, entry) in self._places.items()}
        return {n: torch.empty(e["shape"], dtype=DTYPES[e["dtype"]], device="meta") for n, e in entries.items()}

    def _listed(self) -> dict[str, str]:
        listed = read_json(self.folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(f, str) for f in listed.values()):
            raise CheckpointError(f"{self.folder / INDEX}: needs a weight_map of names to files")
        if foreign := [f for f in listed.values() if Path(f).name != f]:
            raise CheckpointError(f"{self.folder / INDEX}: {foreign[0]!r} is not a file of this folder")
        return listed

    def _add(self, path: Path) -> None:
        header = read_header(path)
        header.pop("__metadata__", None)
        if twice := sorted(header.keys() & self._places.keys()):
            raise CheckpointError(f"{path}: {twice[0]!r} is also in {self._places[twice[0]][0].name}")
        with open(path, "rb") as file:
            at = 8 + int.from_bytes(file.read(8), "little")
        self._places |= {name: (path, at, entry) for name, entry in header.items()}


def revision(folder: Path) -> str:
    """Which weights a folder holds, in twelve digits: the hub's commit, or the beginning of their file's SHA-256, or
    of those of several files."""
    if folder.parent.name == "snapshots":
        return folder.name[:12]
    digests = []
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    whole = digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(d.digest() for d in digests))
    return whole.hexdigest()[:12]


def bounded(path: Path, most: int, what: str) -> None:
    """CheckpointError if a file has more bytes than a `what` may have."""
    if (size := path.stat().st_size) > most:
        raise CheckpointError(f"{path}: {size} bytes, the limit for a {what} is {most}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of at most MAX_JSON bytes; CheckpointError if there is none."""
    try:
        if (size := path.stat().st_size) > MAX_JSON:
            raise CheckpointError(f"{path}: {size} bytes, the limit is {MAX_JSON}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: not JSON: {e}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: must be an object, is a {type(data).__name__}")
    return data


def write(
    folder: Path | str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], shard: int = SHARD_BYTES
) -> None:
    """Write config.json and the tensors, in one file or in shards of at most `shard` bytes (a larger tensor alone).

    Raises:
        ResourceError: the disk is full or the folder may not be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(tensors, shard)
    names = (
        [WEIGHTS]
        if len(parts) == 1
        else [f"model-{i + 1:05}-of-{len(parts):05}.safetensors" for i in range(len(parts))]
    )
    (folder / INDEX).unlink(missing_ok=True)  # of what was there before
    for name, part in zip(names, parts, strict=True):
        save_tensors({n: tensors[n] for n in part}, folder / name, {"format": "pt"})
    if len(parts) > 1:
        listed = {n: name for name, part in zip(names, parts, strict=True) for n in part}
        total = sum(x.nbytes for x in tensors.values())
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": listed}, indent=1)
        write_atomic(folder / INDEX, text.encode())
    write_atomic(folder / CONFIG, json.dumps(config, indent=1).encode())


def _parts(tensors: Mapping[str, Tensor], most: int) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    held = 0
    for name, x in tensors.items():
        if parts[-1] and held + x.nbytes > most:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += x.nbytes
    return parts
