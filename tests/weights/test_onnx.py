"""Tensors of ONNX files, of messages written byte by byte here."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError
from mmworld.weights import onnx

pytest.importorskip("google.protobuf", reason="the extra 'onnx' is not installed")


def varint(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def part(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: list[float], shape: tuple[int, ...], kind: int = 1) -> bytes:
    dims = b"".join(varint(1 << 3) + varint(n) for n in shape)
    raw = struct.pack(f"<{len(values)}f", *values)
    return dims + varint(2 << 3) + varint(kind) + part(8, name.encode()) + part(9, raw)


def constant(output: str, held: bytes) -> bytes:
    """A node that gives a tensor."""
    attribute = part(1, b"value") + part(5, held)
    return part(2, output.encode()) + part(4, b"Constant") + part(5, attribute)


def branch(graph: bytes) -> bytes:
    """A node with a graph in it."""
    return part(4, b"If") + part(5, part(1, b"then_branch") + part(6, graph))


def model(graph: bytes) -> bytes:
    return varint(1 << 3) + varint(8) + part(7, graph)


numbers = st.lists(st.floats(width=32, allow_nan=False), max_size=6)


@given(held=numbers, given=numbers, deep=numbers)
def test_tensors_come_by_name(
    held: list[float], given: list[float], deep: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    inner = part(1, constant("deep", tensor("", deep, (1, len(deep)))))
    graph = part(5, tensor("held", held, (len(held),))) + part(
        1, constant("given", tensor("x", given, (len(given), 1)))
    )
    whole = (
        graph
        + part(1, constant("whole number", tensor("", [1.0], (), kind=7)))
        + part(1, branch(part(1, branch(inner))))
    )
    path = tmp_path_factory.getbasetemp() / "some.onnx"
    path.write_bytes(model(whole))
    found = onnx.read(path)
    want = {
        "held": torch.tensor(held).view(len(held)),
        "given": torch.tensor(given).view(-1, 1),
        "deep": torch.tensor(deep).view(1, -1),
    }
    assert found.keys() == want.keys()
    assert all(torch.equal(found[name], x) for name, x in want.items())


FOUR = [1.0, 2.0, 3.0, 4.0]
BAD = {
    "no ONNX model": b"\x07\x07\x07 this is none",
    "no ONNX model with weights": b"",
    "16 bytes do not fill": model(part(5, tensor("w", FOUR, (5,)))),
    "16 bytes do not fill .*": model(part(5, tensor("w", FOUR, (1 << 62, 4)))),
    "'w' is there twice": model(part(5, tensor("w", FOUR, (4,))) * 2),
    "no ONNX model: ": model(part(5, tensor("w", FOUR, (4,))))[:-3],
}


@pytest.mark.parametrize("why", BAD)
def test_what_is_damaged_is_refused(why: str, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(BAD[why])
    with pytest.raises(CheckpointError, match=why):
        onnx.read(tmp_path / "bad.onnx")


def test_what_is_missing_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        onnx.read(tmp_path / "none.onnx")
    monkeypatch.setattr(onnx, "MAX_BYTES", 3)
    (tmp_path / "large.onnx").write_bytes(b"1234")
    with pytest.raises(CheckpointError, match="4 bytes, the limit is 3"):
        onnx.read(tmp_path / "large.onnx")
