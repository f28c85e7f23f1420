"""Models in folders: saved and loaded they are the same, and a folder that is wrong says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from toy import TOYS, stream, toy_registry, toy_world

from mmworld.errors import CheckpointError
from mmworld.models.load import SHIPPED, load
from mmworld.models.world import Item, World
from mmworld.weights.checkpoint import load_safetensors, save_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    WORLD.save(tmp_path / "model", dtype=None)
    return tmp_path / "model"


WORLD = toy_world(seed=1)
ITEM = Item(tuple(stream(n, 1.0) for n in TOYS), (1, 5, 6, 2))


def load_toy(folder: Path) -> World:
    with toy_registry():
        return load(folder)


def test_loaded_is_saved(folder: Path) -> None:
    state = torch.get_rng_state()
    world = load_toy(folder)
    assert torch.equal(torch.get_rng_state(), state)
    assert world.config == WORLD.config
    assert torch.equal(world([ITEM]), WORLD([ITEM]))
    assert not world.training
    assert not any(p.requires_grad for p in world.parameters())
    assert world.tokenizer.encode("a red ball") == WORLD.tokenizer.encode("a red ball")


def test_half_storage_is_close(folder: Path) -> None:
    WORLD.save(folder)
    assert all(x.dtype == torch.float16 for x in load_safetensors(folder / "model.safetensors").values())
    torch.testing.assert_close(load_toy(folder)([ITEM]), WORLD([ITEM]), rtol=0.05, atol=0.05)


def test_unknown_names() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'nano'"):
        load("nanoo")
    with pytest.raises(CheckpointError, match="a folder, or one of: nano"):
        load("/somewhere/else")


def test_a_model_that_is_not_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SHIPPED, "nano", tmp_path / "nano")
    with pytest.raises(CheckpointError, match="'nano' is not part of this installation"):
        load("nano")


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "tokenizer.json"])
def test_a_file_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_toy(folder)


CHANGES = {
    "code of a stranger": ({"auto_map": {"AutoModel": "evil.py"}}, "auto_map"),
    "wrong type": ({"vocab": "many"}, "vocab"),
    "too wide": ({"vocab": 10**12}, "larger model than the weights fill"),
    "too deep": ({"backbone": {"dim": 32, "depth": 10**9, "n_heads": 2}}, "larger model than the weights fill"),
    "huge": ({"backbone": {"dim": 10**9, "depth": 1, "n_heads": 2}}, "larger model than the weights fill"),
    "negative": ({"backbone": {"dim": -32, "depth": 1, "n_heads": 2}}, "no model can be built"),
    "no heads": ({"backbone": {"dim": 32, "depth": 1, "n_heads": 0}}, "no model can be built"),
    "other weights": ({"backbone": {"dim": 32, "depth": 1, "n_heads": 2}}, "unknown: backbone.layers.1"),
    "a sense it has not": ({"adapters": {"smell": {}}}, "no modality named 'smell'"),
    "small vocabulary": ({"vocab": 10}, "room for 10"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_configs_that_lie(folder: Path, name: str) -> None:
    change, message = CHANGES[name]
    plain = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(plain | change))
    with pytest.raises(CheckpointError, match=message):
        load_toy(folder)


def test_weights_that_are_not_numbers(folder: Path) -> None:
    tensors = load_safetensors(folder / "model.safetensors")
    tensors["time.weight"][0, 0] = torch.inf
    save_tensors(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite: time\.weight"):
        load_toy(folder)


def test_a_vocabulary_of_another_kind(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match="pre_tokenizer of type 'Split'"):
        load_toy(folder)
