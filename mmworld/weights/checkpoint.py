"""Checkpoints: safetensors only, checked before they are believed, written whole or not at all; never a pickle."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from mmworld.errors import CheckpointError, ResourceError

MAX_HEADER = 16 << 20
SHOWN = 3
"""Names listed in an error before "and n more"."""
DTYPES = {
    **{"BOOL": torch.bool, "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64},
    **{"I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64},
}
"""The dtypes of safetensors by their names there."""
_SCALAR: Any = np._core.multiarray.scalar  # type: ignore[attr-defined]
_NUMBERS: list[Any] = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64))),
]
"""How numpy writes a number: measures that stand beside the weights."""


def read_header(path: Path | str) -> dict[str, Any]:
    """The header of a safetensors file: each tensor's dtype, shape and data_offsets, and "__metadata__".

    Raises:
        CheckpointError: the file is missing or is no safetensors file to the byte: a header over MAX_HEADER or not
            JSON, a name twice, a shape that does not fill its bytes, tensors that overlap, leave a hole or do not end
            where the file does.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 10 or length > size - 8:
                raise CheckpointError(f"{path}: {size} bytes cannot hold a header of {length}: cut or no safetensors")
            if length > MAX_HEADER:
                raise CheckpointError(f"{path}: a header of {length} bytes, the limit is {MAX_HEADER}")
            header = _parse(file.read(length), path)
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from None
    _check_offsets(header, size - 8 - length, path)
    return header


def load_safetensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name, on the CPU. Raises what `read_header` raises."""
    read_header(path)
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"{path}: {e}") from None


def load_pickled(path: Path | str) -> dict[str, Any]:
    """What an old checkpoint of torch holds, tensors, numbers (numpy's too) and plain data: nothing in it is run.

    Raises:
        CheckpointError: the file is missing, is no checkpoint, or asks to run something.
    """
    try:
        with torch.serialization.safe_globals(_NUMBERS):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from None
    except Exception as e:  # of pickle and zip, of many kinds
        first = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise CheckpointError(f"{path}: not read, as it is no checkpoint of tensors alone: {first}") from None
    if not isinstance(held, dict):
        raise CheckpointError(f"{path}: holds a {type(held).__name__}, not names and tensors")
    return held


def save(module: nn.Module, path: Path | str, *, dtype: torch.dtype | None = None) -> None:
    """Write the state of `module` to `path`, floats as `dtype` if given. Atomic, see `save_tensors`.

    Raises:
        CheckpointError: a weight is NaN or infinite, or too large for `dtype`.
        ResourceError: the disk is full or the folder may not be written.
    """
    tensors = {n: x.to(dtype) if dtype and x.is_floating_point() else x for n, x in module.state_dict().items()}
    if bad := [n for n, x in tensors.items() if not finite(x)]:
        raise CheckpointError(f"{path}: not saved, not finite{f' in {dtype}' if dtype else ''}: {some(bad)}")
    save_tensors(tensors, path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors: to `path.part`, synced, renamed, so `path` is the old file or the whole new one.

    Raises:
        ResourceError: the disk is full or the folder may not be written; `path` is as it was.
    """
    data = safetensors.torch.save({n: x.detach().cpu().contiguous().clone() for n, x in tensors.items()}, metadata)
    write_atomic(path, data)


def write_atomic(path: Path | str, data: bytes) -> None:
    """Write a whole file or nothing; ResourceError if the system refuses."""
    path, part = Path(path), Path(f"{path}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise ResourceError(f"{path}: not written: {e.strerror}", hint="the file there before is untouched") from None


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename is durable by itself
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _parse(text: bytes, path: Path | str) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: the header is not JSON: {e}") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is a {type(header).__name__}, not an object")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        names = [n for n, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return out


def _check_offsets(header: dict[str, Any], n_bytes: int, path: Path | str) -> None:
    spans = sorted((*_span(name, entry, path), name) for name, entry in header.items() if name != "__metadata__")
    at = 0
    for begin, end, name in spans:
        if begin != at:
            what = "overlaps the tensor before it" if begin < at else f"leaves a hole of {begin - at} bytes before it"
            raise CheckpointError(f"{path}: {name!r} {what}")
        at = end
    if at != n_bytes:
        last = repr(spans[-1][2]) if spans else "no tensor"
        raise CheckpointError(f"{path}: {last} ends at byte {at} of {n_bytes}: cut, or with something after it")


def _span(name: str, entry: Any, path: Path | str) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{path}: {name!r} needs dtype, shape and data_offsets and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(f"{path}: {name!r} has dtype {dtype!r}, known: {', '.join(DTYPES)}")
    if not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        raise CheckpointError(f"{path}: {name!r} has shape {shape!r} and data_offsets {offsets!r}")
    n_bytes = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != n_bytes:
        raise CheckpointError(f"{path}: {name!r} {dtype}{shape} is {n_bytes} bytes, {offsets} are not")
    return offsets[0], offsets[1]


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def fits(given: Tensor, wanted: Tensor) -> bool:
    """Whether one may be copied into the other: floats of any width into floats, integers into integers."""
    return given.shape == wanted.shape and given.is_floating_point() == wanted.is_floating_point()


def finite(x: Tensor) -> bool:
    """Whether no number in `x` is NaN or infinite; holds nothing of the size of `x`."""
    if not x.is_floating_point() or not x.numel():
        return True
    ends = torch.stack((x if x.element_size() > 1 else x.float()).aminmax())  # NaN if there is one
    return bool(ends.isfinite().all())


def describe(x: Tensor) -> str:
    """dtype[shape], as messages name a tensor."""
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"


def some(names: list[str]) -> str:
    """The first SHOWN names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
