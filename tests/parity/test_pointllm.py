"""PointLLM: what it says of clouds is what transformers' LLaMA says of the same tokens; its names, and clouds as its
authors prepare them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import vocabulary
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import mmworld
from mmworld.errors import CheckpointError, UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.modalities.pointcloud.readers import read_cloud
from mmworld.models.message import Message
from mmworld.models.zoo import save
from mmworld.models.zoo.parity.equations.pointllm import SIZES, tiny
from mmworld.models.zoo.pointllm import POINTS, PointLLM, prepare
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
PROMPT = (
    "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: <point_start>{}<point_end>\nwhat is this? ASSISTANT: a dog</s>"
    "USER: <point_start>{}<point_end>\nand this? ASSISTANT:"
)
"""As the conversation "vicuna_v1_1" of the released code writes it."""


def cloud(seed: int, n: int) -> Chunk:
    return Chunk(torch.rand(n, 11, generator=torch.Generator().manual_seed(seed)), 0.0, 0.0, "points")


def folder(path: Path) -> Any:
    """A checkpoint of random weights, and its vocabulary with the three ids that the authors add."""
    fast = vocabulary(path)
    fast.add_tokens(["<point_patch>", "<point_start>", "<point_end>"], special_tokens=True)
    fast.save_pretrained(path)
    save(tiny(vocab_size=len(fast), eos_token_id=1, bos_token_id=0).float(), path)
    return fast


@torch.no_grad()
def test_it_says_what_llama_says_of_the_same_tokens(tmp_path: Path) -> None:
    fast, first, second = folder(tmp_path), cloud(1, 40), cloud(2, 9)
    ours = mmworld.load(tmp_path)
    state, logits = ours.begin(
        [
            Message("user", (first, "what is this?")),
            Message("assistant", ("a dog",)),
            Message("user", (second, "and this?")),
        ]
    )
    said = decode(ours, state, logits, stop=Stop(32))[0].ids

    theirs, report = hf.LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    ids = fast(PROMPT.format(*["<point_patch>" * 6] * 2), add_special_tokens=False, return_tensors="pt").input_ids
    x = theirs.model.embed_tokens(ids)
    seen = [ours.see(torch.from_numpy(normed(c.data[:, :6].numpy()))[None].float())[0] for c in (first, second)]
    x[0, ids[0] == fast.convert_tokens_to_ids("<point_patch>")] = torch.cat(seen)
    told = theirs.generate(inputs_embeds=x, max_new_tokens=32, do_sample=False, eos_token_id=1)[0].tolist()
    assert said == tuple(i for i in told if i != 1)
    assert len(said) > 10


def normed(points: np.ndarray) -> np.ndarray:
    """`pc_norm` of the released data set."""
    xyz = points[:, :3] - np.mean(points[:, :3], axis=0)
    return np.concatenate((xyz / np.max(np.sqrt(np.sum(xyz**2, axis=1))), points[:, 3:]), axis=1)


@given(st.integers(0, 2**32), st.integers(2, 500), st.integers(3, 11), st.floats(1e-2, 1e3))
def test_a_cloud_is_prepared_as_the_authors_do(seed: int, n: int, columns: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(rng.normal(size=columns), size, (n, columns)).astype(np.float32)
    got = prepare(torch.from_numpy(points), 6)
    assert got.shape == (n, 6)
    want = normed(np.pad(points.astype(np.float64), ((0, 0), (0, max(0, 6 - columns))))[:, :6])
    assert np.abs(got.numpy()[:, :3] - want[:, :3]).max() <= 1e-3
    assert np.array_equal(got.numpy()[:, 3:columns], points[:, 3:6])
    assert prepare(torch.from_numpy(points), 3).shape == (n, 3)


def test_of_a_large_cloud_points_all_over_it_are_kept() -> None:
    path = Path(mmworld.__file__).parent / "samples" / "solid.ply"
    one = read_cloud(path).points
    large = one.repeat(-(-40_000 // len(one)), 1)
    large[:, :3] += 1e-4 * torch.randn(len(large), 3, generator=torch.Generator().manual_seed(0))
    got = prepare(large, 6)
    assert got.shape == (POINTS, 6)
    kept = torch.cdist(prepare(one, 3), got[:, :3]).amin(1)
    assert kept.max() < 0.05  # nothing of the object is lost


def test_real_clouds_are_prepared_as_the_authors_do(shared_data: Path) -> None:
    paths = sorted(p for p in (shared_data / "media").rglob("*") if p.suffix in (".ply", ".pcd"))
    assert paths
    for path in paths:
        points = read_cloud(path).points[:POINTS, :6]
        want = normed(points.double().numpy())
        assert np.abs(prepare(points, 6).numpy() - want).max() <= 1e-3, path


def test_names_are_those_that_were_released() -> None:
    llama = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
    with torch.device("meta"):
        first = PointLLM({"model_type": "pointllm", "vocab_size": 99, "use_color": True, **llama})
        old = "PointTransformer_base_8192point"
        second = PointLLM({"model_type": "pointllm", "vocab_size": 99, "point_backbone_config_name": old, **llama})
    theirs: dict[str, Tensor] = first.keymap.theirs(first.state_dict())
    assert {n.split(".")[0] for n in theirs} == {"model", "lm_head"}
    shapes = {
        "model.point_backbone.encoder.first_conv.0.weight": (128, 6, 1),
        "model.point_backbone.blocks.blocks.11.attn.qkv.weight": (1152, 384),
        "model.point_backbone.cls_pos": (1, 1, 384),
        "model.point_backbone.reduce_dim.weight": (384, 256),
        "model.point_proj.0.weight": (1024, 384),
        "model.point_proj.2.weight": (2048, 1024),
        "model.point_proj.4.bias": (64,),
        "model.embed_tokens.weight": (99, 64),
    }
    assert {n: tuple(theirs[n].shape) for n in shapes} == shapes
    theirs = second.keymap.theirs(second.state_dict())
    assert theirs["model.point_proj.weight"].shape == (64, 1152)
    assert theirs["model.point_backbone.encoder.first_conv.0.weight"].shape == (128, 3, 1)


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    ours = mmworld.load(tmp_path)
    with pytest.raises(UsageError, match="a cloud of 5 points, the model reads at least 6"):
        ours.begin([Message("user", (cloud(0, 5), "what is this?"))])
    config = json.loads((tmp_path / "config.json").read_text())
    for name, value in (("mm_use_point_start_end", False), ("point_backbone", "PointNet"), ("use_color", "yes")):
        (tmp_path / "config.json").write_text(json.dumps({**config, name: value}))
        with pytest.raises(CheckpointError, match=name):
            mmworld.load(tmp_path)


@torch.no_grad()
def test_it_is_read_in_half_precision(tmp_path: Path) -> None:
    folder(tmp_path)
    ours = mmworld.load(tmp_path, dtype=torch.bfloat16)
    _, logits = ours.begin([Message("user", (cloud(1, 40),))])
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_sizes_of_the_encoder_are_those_of_its_name_or_given() -> None:
    sizes = {**SIZES, "point_backbone_config": {**SIZES["point_backbone_config"], "trans_dim": "wide"}}
    with pytest.raises(mmworld.errors.ConfigError, match="trans_dim"):
        PointLLM(sizes)
