"""NPY and NPZ arrays of plain numbers, without pickle: the header is checked against the bytes that are there."""

from __future__ import annotations

import ast
import io
import math
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import LimitError, MediaError

MAX_HEADER = 10_000  # numpy's own limit
MAX_BYTES = 512 << 20
MAX_MEMBERS = 64
MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Npy:
    """What an NPY header declares. `shape` counts records; `dtype` is numeric or a structure of numbers."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def bytes_left(file: BinaryIO) -> int:
    """Bytes between the position of a seekable file and its end."""
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here


def seekable(file: IO[bytes], name: str) -> BinaryIO:
    """The file itself, buffered, or a temporary copy of what a pipe delivers, at most 512 MB."""
    if file.seekable():
        return io.BufferedReader(file) if isinstance(file, io.RawIOBase) else cast("BinaryIO", file)
    copy, size = tempfile.TemporaryFile(), 0  # noqa: SIM115 - lives as long as its reader
    while data := file.read(1 << 16):
        size += len(data)
        if size > MAX_BYTES:
            copy.close()
            raise LimitError(
                "limit", f"{name}: more than {MAX_BYTES} bytes through a pipe", hint="pass the file's name"
            )
        copy.write(data)
    copy.seek(0)
    return cast("BinaryIO", copy)


def read_header(file: IO[bytes], name: str, size: int) -> Npy:
    """Read the header of an NPY array of `size` bytes in all, leaving `file` at its data.

    Raises:
        MediaError: not NPY, not plain numbers, or fewer bytes than the shape needs ("truncated").
    """
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise MediaError("format", f"{name}: not an NPY array")
    form = "<H" if magic[6] == 1 else "<I"
    prefix = file.read(struct.calcsize(form))
    if len(prefix) < struct.calcsize(form):
        raise MediaError("truncated", f"{name}: the NPY header is cut off")
    (length,) = struct.unpack(form, prefix)
    if length > MAX_HEADER:
        raise LimitError("limit", f"{name}: NPY header of {length} bytes, the limit is {MAX_HEADER}")
    header = _header(file.read(length), name)
    left = size - len(magic) - len(prefix) - length
    if header.nbytes > left:
        raise MediaError("truncated", f"{name}: the array needs {header.nbytes} bytes, {max(left, 0)} are there")
    return header


def _header(text: bytes, name: str) -> Npy:
    try:
        fields = ast.literal_eval(text.decode("latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        dtype = np.dtype([_field(*f) for f in descr] if isinstance(descr, list) else descr)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError, OverflowError):
        raise MediaError("format", f"{name}: the NPY header is damaged") from None
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise MediaError("format", f"{name}: NPY shape {str(shape)[:40]}")
    if len(shape) > MAX_DIMENSIONS or not isinstance(fortran, bool) or dtype.itemsize == 0:
        raise MediaError("format", f"{name}: NPY header {str(fields)[:80]}")
    parts = [dtype[n] for n in dtype.names] if dtype.names else [dtype]
    if any(part.kind not in "biuf" for part in parts):
        raise MediaError("format", f"{name}: NPY of {str(dtype)[:60]}", hint="only plain numbers are read, no objects")
    return Npy(dtype, shape, fortran)


def _field(key: str, code: str) -> tuple[str, str]:
    if not isinstance(key, str) or not isinstance(code, str):
        raise TypeError(key)
    return key, code


def record_blocks(file: BinaryIO, name: str, header: Npy, rows: int) -> Iterator[NDArray[Any]]:
    """The array as blocks of at most `rows` along its first axis."""
    if header.fortran and len(header.shape) > 1:
        array = _array(file, name, header)
        for i in range(0, len(array), rows):
            yield array[i : i + rows]
        return
    count, inner = (header.shape[0], header.shape[1:]) if header.shape else (1, ())
    size = math.prod(inner) * header.dtype.itemsize
    for i in range(0, count if size else 0, rows):
        n = min(rows, count - i)
        yield np.frombuffer(_exactly(file, n * size, name), header.dtype).reshape(n, *inner)


def _array(file: IO[bytes], name: str, header: Npy) -> NDArray[Any]:
    if header.nbytes > MAX_BYTES:
        raise LimitError("limit", f"{name}: an array of {header.nbytes} bytes, the limit is {MAX_BYTES}")
    flat = np.frombuffer(_exactly(file, header.nbytes, name), header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _exactly(file: IO[bytes], n: int, name: str) -> bytes:
    data = file.read(n)
    if len(data) < n:
        raise MediaError("truncated", f"{name}: {n - len(data)} bytes short")
    return data


def read_npz(file: BinaryIO, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ archive, at most 512 MB of them.

    Raises:
        MediaError: not a ZIP of NPY arrays, damaged, or past a limit.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS or sum(i.file_size for i in infos) > MAX_BYTES:
                raise LimitError("limit", f"{name}: {len(infos)} arrays, the limits are {MAX_MEMBERS} and 512 MB")
            return {i.filename.removesuffix(".npy"): _member(archive, i, name) for i in infos}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error) as e:
        raise MediaError("truncated", f"{name}: damaged NPZ archive: {e}") from None
    except (NotImplementedError, RuntimeError) as e:
        raise MediaError("format", f"{name}: unsupported NPZ archive: {e}") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> NDArray[Any]:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise MediaError("format", f"{name}: compression {info.compress_type} in {info.filename[:40]!r}")
    member = f"{name}:{info.filename[:40]}"
    with archive.open(info) as file:
        header = read_header(file, member, info.file_size)
        return _array(file, member, header)
