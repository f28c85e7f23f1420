"""Checkpoints: a damaged or foreign file is refused by name, and a save is whole or did not happen."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmworld.errors import CheckpointError, ResourceError
from mmworld.weights.checkpoint import MAX_HEADER, load_safetensors, read_header, save, save_tensors
from mmworld.weights.keymap import load_into

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8])


@given(
    tensors=st.dictionaries(
        st.text(min_size=1, max_size=8), st.tuples(dtypes, st.lists(st.integers(0, 3), max_size=3)), max_size=5
    )
)
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    want = {n: torch.randn(shape).mul(9).to(dtype) for n, (dtype, shape) in tensors.items() if n != "__metadata__"}
    save_tensors(want, path)
    got = load_safetensors(path)
    assert got.keys() == want.keys()
    assert all(got[n].dtype == x.dtype and torch.equal(got[n], x) for n, x in want.items())


BAD = {
    "hole": ({"a": F32, "b": {**F32, "data_offsets": [12, 20]}}, 20, "'b' leaves a hole of 4 bytes"),
    "hole at the start": ({"a": {**F32, "data_offsets": [4, 12]}}, 12, "'a' leaves a hole"),
    "overlap": ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, 12, "'b' overlaps"),
    "same bytes twice": ({"a": F32, "b": F32}, 8, "'b' overlaps"),
    "cut": ({"a": F32}, 7, "'a' ends at byte 8 of 7"),
    "extra bytes": ({"a": F32}, 9, "'a' ends at byte 8 of 9"),
    "wrong shape": ({"a": {**F32, "shape": [3]}}, 8, r"'a' F32\[3\] is 12 bytes"),
    "shape overflows": ({"a": {**F32, "shape": [2**62, 2**62, 4]}}, 8, "'a' F32"),
    "negative shape": ({"a": {**F32, "shape": [-1, -2]}}, 8, "'a' has shape"),
    "offsets backwards": ({"a": {**F32, "data_offsets": [8, 0]}}, 8, "'a' F32"),
    "fractional": ({"a": {**F32, "shape": [2.0]}}, 8, "'a' has shape"),
    "true is no number": ({"a": {**F32, "shape": [True, 2]}}, 8, "'a' has shape"),
    "unknown dtype": ({"a": {**F32, "dtype": "O8"}}, 8, "'a' has dtype 'O8'"),
    "unknown field": ({"a": {**F32, "code": "x"}}, 8, "'a' needs dtype"),
    "no fields": ({"a": 3}, 0, "'a' needs dtype"),
    "a list": ([], 0, "a list, not an object"),
    "duplicate": (b'{"a":%s,"a":%s}' % ((json.dumps(F32).encode(),) * 2), 8, "'a' stands there twice"),
    "not JSON": (b"{'a'}", 0, "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', 0, "not JSON"),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 0, "not JSON|'a' needs"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_headers_name_the_tensor(name: str, tmp_path: Path) -> None:
    header, n_bytes, message = BAD[name]
    path = write(tmp_path / "bad.safetensors", header, bytes(n_bytes))
    with pytest.raises(CheckpointError, match=message) as e:
        load_safetensors(path)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("length", [2**63, 200 << 20, 3])
def test_header_length_that_lies(length: int, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot hold|not JSON"):
        load_safetensors(write(tmp_path / "bad.safetensors", {"a": F32}, bytes(8), length=length))


def test_header_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.safetensors", b"{", length=MAX_HEADER + 1)
    os.truncate(path, MAX_HEADER + 100)
    with pytest.raises(CheckpointError, match="the limit is"):
        read_header(path)


@pytest.mark.parametrize("data", [b"", b"\x00" * 8, b"\x02\x00\x00\x00\x00\x00\x00\x00{", pickle.dumps({"a": 1})])
def test_files_that_are_something_else(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_safetensors(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_safetensors(tmp_path / "none")
    with pytest.raises(CheckpointError, match="directory"):
        load_safetensors(tmp_path)


@given(st.data())
def test_flipped_bytes_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A file with changed bytes is refused, or gives tensors of the shapes its header states."""
    path = tmp_path_factory.getbasetemp() / "flip.safetensors"
    raw = bytearray(safetensors.torch.save({"a": torch.randn(2, 3), "b": torch.arange(4)}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        tensors = load_safetensors(path)
    except CheckpointError:
        return
    header = read_header(path)
    assert all(list(x.shape) == header[n]["shape"] for n, x in tensors.items())


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_strict_keys_shapes_and_numbers() -> None:
    tensors = {n: x.clone() for n, x in model().state_dict().items()}
    target = model()
    before = {n: x.clone() for n, x in target.state_dict().items()}
    del tensors["0.bias"]
    tensors["0.extra"] = torch.zeros(1)
    tensors["0.weight"] = torch.zeros(4, 4)
    tensors["1.weight"] = torch.zeros(4, dtype=torch.int64)
    tensors["1.running_var"][2] = torch.nan
    with pytest.raises(CheckpointError) as e:
        load_into(target, tensors, where="some.safetensors")
    for part in (
        "some.safetensors: missing: 0.bias",
        "unknown: 0.extra",
        "0.weight float32[4, 4] for float32[4, 3]",
        "1.weight int64[4]",
        "not finite: 1.running_var",
    ):
        assert part in str(e.value)
    assert all(torch.equal(x, before[n]) for n, x in target.state_dict().items())


def test_long_lists_are_cut_short() -> None:
    with pytest.raises(CheckpointError, match=r"missing: 0.weight, 0.bias, 1.weight and 4 more"):
        load_into(model(), {})


def test_half_precision_storage_is_read_as_float32(tmp_path: Path) -> None:
    a, b = model(), model()
    save(a, tmp_path / "m.safetensors", dtype=torch.float16)
    load_into(b, load_safetensors(tmp_path / "m.safetensors"))
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert y.dtype == x.dtype
        assert torch.equal(y, x.half().to(x.dtype) if x.is_floating_point() else x)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    m = model()
    with torch.no_grad():
        m[0].weight[0, 0] = 1e30
    save(m, tmp_path / "full.safetensors")
    with pytest.raises(CheckpointError, match=r"float16: 0\.weight"):
        save(m, tmp_path / "half.safetensors", dtype=torch.float16)
    assert os.listdir(tmp_path) == ["full.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save(model(), path)
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        save(model(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="No such file"):
        save(model(), tmp_path / "none" / "m.safetensors")
