"""Checkpoint folders of others: what is whole is read by name, what is not is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mmworld
from mmworld.errors import CheckpointError
from mmworld.models.zoo import save
from mmworld.text.llama import Llama
from mmworld.weights import shards
from mmworld.weights.checkpoint import save_tensors
from mmworld.weights.keymap import Fuse, KeyMap, Transposed
from mmworld.weights.shards import CONFIG, INDEX, WEIGHTS, Shards

TINY = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 2}


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), most=st.integers(1, 200))
def test_a_checkpoint_comes_back_from_any_shards(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int
) -> None:
    folder = tmp_path_factory.mktemp("folder")
    given = {f"t.{i}": torch.randn(n, 2).to(torch.bfloat16 if i % 2 else torch.float32) for i, n in enumerate(sizes)}
    shards.write(folder, {"model_type": "any"}, given, most)
    back = Shards(folder)
    assert back.keys() == given.keys()
    assert all((x.shape, x.dtype) == (given[n].shape, given[n].dtype) for n, x in back.shapes.items())
    assert all(back[n].dtype == x.dtype and torch.equal(back[n], x) for n, x in given.items())
    for path in folder.glob("*.safetensors"):
        held = Shards.__new__(Shards)
        held.folder, held._places = folder, {}
        held._add(path)
        assert len(held) == 1 or sum(x.nbytes for x in held.values()) <= most


def test_a_folder_written_again_in_one_file_forgets_its_shards(tmp_path: Path) -> None:
    given = {"a": torch.zeros(4), "b": torch.ones(4)}
    shards.write(tmp_path, {}, given, 16)
    shards.write(tmp_path, {}, {"a": torch.ones(4)})
    assert list(Shards(tmp_path)) == ["a"]
    assert not (tmp_path / INDEX).exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny LLaMA in two shards or more."""
    torch.manual_seed(0)
    save(Llama(TINY), tmp_path, shard=2000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    return tmp_path


def break_(folder: Path, how: str) -> None:
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    listed = json.loads((folder / INDEX).read_text())
    config = json.loads((folder / CONFIG).read_text())
    match how:
        case "lost shard":
            second.unlink()
        case "cut shard":
            second.write_bytes(second.read_bytes()[:-1])
        case "tensor not in its shard":
            listed["weight_map"]["model.norm.weight"] = first.name
        case "outside":
            listed["weight_map"]["model.norm.weight"] = "../secret.safetensors"
        case "index of nothing":
            listed = {}
        case "unknown":
            save_tensors({**Shards(folder), "model.extra": torch.zeros(1)}, folder / WEIGHTS)
        case "missing":
            tensors = dict(Shards(folder))
            del tensors["model.layers.1.self_attn.k_proj.weight"]
            save_tensors(tensors, folder / WEIGHTS)
        case "shape":
            save_tensors({**Shards(folder), "model.norm.weight": torch.zeros(9)}, folder / WEIGHTS)
        case "nan":
            save_tensors({**Shards(folder), "model.norm.weight": torch.full((8,), torch.nan)}, folder / WEIGHTS)
        case "larger than its weights":
            config["hidden_size"] = 1 << 20
        case "very deep":
            config["num_hidden_layers"] = 1 << 40
        case "of no known type":
            config["model_type"] = "llamma"
        case "of another kind":
            config["hidden_act"] = "tanh"
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / INDEX).write_text(json.dumps(listed))
    if (folder / WEIGHTS).exists():
        (folder / INDEX).unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("lost shard", r"model-00002-of.*: No such file"),
        ("cut shard", r"model-00002-of.*cut"),
        ("tensor not in its shard", r"index.json: 'model.norm.weight' is not in model-00001"),
        ("outside", r"'../secret.safetensors' is not a file of this folder"),
        ("index of nothing", r"needs a weight_map"),
        ("unknown", r"unknown: model.extra"),
        ("missing", r"missing: model.layers.1.self_attn.k_proj.weight"),
        ("shape", r"of another shape or kind: model.norm.weight float32\[9\] for float32\[8\]"),
        ("nan", r"model.norm.weight: not finite"),
        ("larger than its weights", r"embed_tokens.weight float32\[9, 8\] for float32\[9, 1048576\], .* and \d+ more"),
        ("very deep", r"config.json: num_hidden_layers: input should be less than or equal to 1024"),
        ("of no known type", r"config.json: no model type named 'llamma'"),
        ("of another kind", r"config.json: hidden_act: input should be 'silu'"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_by_name(folder: Path, how: str, said: str) -> None:
    mmworld.load(folder)
    break_(folder, how)
    with pytest.raises(CheckpointError, match=said):
        mmworld.load(folder)


def test_a_dtype_is_that_of_all_weights(folder: Path) -> None:
    model = mmworld.load(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    save(model, folder)
    assert json.loads((folder / CONFIG).read_text())["dtype"] == "bfloat16"
    assert {x.dtype for x in Shards(folder).values()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())


# --- the key map


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 6) for _ in range(2))
        self.out = nn.Linear(6, 3)


MAP = KeyMap(
    {"layers.{i}.*": Fuse(("h.{i}.a.*", "h.{i}.b.*"), (2, 4)), "out.*": Transposed("last.*")}, unused=("h.{i}.table",)
)


def test_a_table_is_read_both_ways() -> None:
    ours, again = Two(), Two()
    theirs = MAP.theirs(ours.state_dict())
    assert theirs.keys() == {f"h.{i}.{n}.{p}" for i in (0, 1) for n in "ab" for p in ("weight", "bias")} | {
        "last.weight",
        "last.bias",
    }
    assert theirs["last.weight"].shape == (6, 3)
    assert theirs["h.1.b.bias"].shape == (4,)
    MAP.check(again, {**theirs, "h.0.table": torch.zeros(1)}, where="here")
    MAP.fill(again, theirs, where="here")
    assert all(torch.equal(again.state_dict()[n], x) for n, x in ours.state_dict().items())


def test_names_and_shapes_are_checked() -> None:
    ours = Two()
    theirs = MAP.theirs(ours.state_dict())
    del theirs["h.1.b.bias"]
    with pytest.raises(CheckpointError, match=r"here: missing: h\.1\.b\.bias; unknown: h\.table, h\.x\.table"):
        MAP.check(ours, {**theirs, "h.table": torch.zeros(1), "h.x.table": torch.zeros(1)}, where="here")
    odd = {**theirs, "h.1.b.bias": torch.zeros(4, dtype=torch.long), "last.weight": torch.zeros(3, 6)}
    with pytest.raises(CheckpointError, match=r"last\.weight float32\[6, 3\] for float32\[3, 6\]"):
        MAP.check(ours, odd, where="here")


def test_a_weight_too_large_for_the_dtype_is_refused() -> None:
    ours = Two().half()
    theirs = {n: torch.full(x.shape, 1e5) for n, x in MAP.theirs(ours.state_dict()).items()}
    with pytest.raises(CheckpointError, match=r"h\.0\.a\.weight, h\.0\.b\.weight: not finite in torch\.float16"):
        MAP.fill(ours, theirs, where="here")


def test_two_names_of_one_tensor_are_refused() -> None:
    both = KeyMap({"out.*": "last.*"}, aliases={"model.": ""})
    tensors = {"last.weight": torch.zeros(3, 6), "model.last.weight": torch.zeros(3, 6), "last.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"last\.weight and model\.last\.weight are the same"):
        both.check(Two(), tensors, where="here")


def test_a_name_without_a_place_is_a_fault_of_the_table() -> None:
    with pytest.raises(CheckpointError, match=r"no place for 'outer\.weight'"):
        MAP.place("outer.weight")
