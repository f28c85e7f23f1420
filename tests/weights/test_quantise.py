"""Weights of few bits: what is rounded and what stays is told, and what cannot be is refused in a line."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import mmworld
from mmworld.errors import UsageError
from mmworld.models.zoo import save
from mmworld.text.llama import Llama
from mmworld.weights.quantise import ROWS, Bits, Quantiser

pytest.importorskip("torchao", reason="the extra 'quantise' is not installed")
WIDE = {"model_type": "llama", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
WIDE |= {"num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LLaMA whose head, to 40 words, int4 does not fit."""
    torch.manual_seed(0)
    save(Llama(WIDE), tmp_path / "llama")
    return tmp_path / "llama"


def off(layer: nn.Linear, kind: Bits, dtype: torch.dtype, device: str = "cpu") -> float:
    """How far the layer's weights come to be from what they were, in steps; the step of int8 is a row's largest by
    127.5, of int4 a fifteenth of what 32 neighbours span."""
    before = layer.weight.detach().double()
    layer.to(device, dtype)
    Quantiser(kind, device, dtype)("layer", layer)
    with torch.no_grad():
        now = layer(torch.eye(layer.in_features, dtype=dtype, device=device)).T.double().cpu()
    groups = before.unflatten(1, (-1, 32))
    span = groups.amax(2) - groups.amin(2)
    step = before.abs().amax(1, keepdim=True) / 127.5 if kind == "int8" else (span / 15).repeat_interleave(32, 1)
    return float(((now - before).abs() / step).max())


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("rows", [16, ROWS, ROWS + 16, 2 * ROWS + 48])
def test_weights_are_rounded_to_the_nearest_however_many_rows(kind: Bits, rows: int) -> None:
    torch.manual_seed(rows)
    assert off(nn.Linear(96, rows, bias=False), kind, torch.float32) < 0.501


@pytest.mark.parametrize(("kind", "limit"), [("int8", 1.5), ("int4", 0.7)])
def test_in_bfloat16_they_are_as_near_as_it_goes(kind: Bits, limit: float) -> None:
    """The quotient has eight bits, too: of int8 it is off by up to a half more, and the scale by as much at its end."""
    torch.manual_seed(0)
    layer = nn.Linear(96, 64, bias=False)
    layer.weight.data = layer.weight.bfloat16().float()
    assert off(layer, kind, torch.bfloat16) < limit


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("kind", "limit"), [("int8", 1.5), ("int4", 0.7)])
def test_on_cuda_they_are_as_near(kind: Bits, limit: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(96, ROWS + 16, bias=False)
    layer.weight.data = layer.weight.bfloat16().float()
    assert off(layer, kind, torch.bfloat16, "cuda") < limit


def test_what_stays_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        mmworld.load(folder, quantise="int8")
        assert caplog.messages == [f"{folder}: 5 linear layers in int8"]
        caplog.clear()
        mmworld.load(folder, quantise="int4")
    (line,) = caplog.messages
    assert line == f"{folder}: 4 linear layers in int4; 1 stay as they were, their widths do not fit: head 32 to 40"
    assert caplog.records[0].levelno == logging.WARNING


@torch.no_grad()
def test_int8_is_saved_as_the_floats_it_stands_for(folder: Path, tmp_path: Path) -> None:
    model: Any = mmworld.load(folder, quantise="int8")
    save(model, tmp_path / "saved")
    again, ids = mmworld.load(tmp_path / "saved"), torch.arange(9)[None]
    assert torch.equal(again.embedding.weight, model.embedding.weight)
    assert not torch.equal(again.head.weight, mmworld.load(folder).head.weight)
    assert torch.allclose(again(ids), model(ids), rtol=0, atol=1e-5 * float(model(ids).abs().max()))
    hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
    theirs = hf.LlamaForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(theirs.lm_head.weight, again.head.weight)


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: Any = mmworld.load(folder, quantise="int4")
    refused: list[tuple[Any, str]] = [
        (lambda: save(packed, tmp_path / "saved"), "weights of int4 cannot be saved: backbone"),
        (lambda: mmworld.load("nano", quantise="int8"), "nano has no weights of int8"),
        (lambda: mmworld.load(folder, quantise="int2"), "no weights of 'int2'"),  # type: ignore[arg-type]
        (lambda: mmworld.load(folder, "mps", quantise="int8"), "no weights of int8 on mps"),
        (lambda: mmworld.load(folder, "cuda", quantise="int4"), "no weights of int4 in float32 on CUDA"),
    ]
    for call, why in refused:
        with pytest.raises(UsageError, match=why):
            call()
    assert not (tmp_path / "saved").exists()
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(UsageError, match="weights of int8 need torchao") as e:
        mmworld.load(folder, quantise="int8")
    assert e.value.hint == "pip install 'mmworld[quantise]'"
