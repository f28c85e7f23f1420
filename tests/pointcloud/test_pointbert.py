"""Point-BERT: distances and masks against brute force, learning, and the files that were released."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmworld.errors import CheckpointError
from mmworld.modalities.pointcloud.dvae import DVAE, DVAEConfig, chamfer, losses
from mmworld.modalities.pointcloud.patches import group
from mmworld.modalities.pointcloud.pointbert import MaskedPointBert, PointBertClassifier, PointBertConfig, mask_block
from mmworld.models.zoo.parity.equations.pointbert import SIZES, WORDS, tiny

SEEDS = st.integers(0, 2**32)
NORM = "weight", "bias", "running_mean", "running_var", "num_batches_tracked"


@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
def test_chamfer_s_distance_is_open3d_s(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (o3d.geometry.PointCloud(o3d.utility.Vector3dVector(rng.normal(size=(k, 3)))) for k in (n, m))
    told = (np.mean(a.compute_point_cloud_distance(b)) + np.mean(b.compute_point_cloud_distance(a))) / 2
    got = chamfer(*(torch.from_numpy(np.asarray(c.points))[None] for c in (a, b)))
    assert abs(float(got) - told) <= 1e-12 * max(told, 1)


@given(SEEDS, st.integers(1, 12), st.floats(0, 1))
def test_what_is_masked_lies_together(seed: int, n: int, ratio: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.rand(3, n, 3, generator=draw)
    for xyz, mask in zip(centres, mask_block(centres, ratio, draw), strict=True):
        assert int(mask.sum()) == int(ratio * n)
        near = [set(torch.cdist(c[None], xyz)[0].argsort()[: int(mask.sum())].tolist()) for c in xyz]
        assert set(mask.nonzero()[:, 0].tolist()) in near


@given(SEEDS, st.integers(8, 40), st.integers(1, 50), st.integers(1, 8))
def test_a_patch_is_its_centre_s_neighbours(seed: int, p: int, n: int, k: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(2, p, 5, dtype=torch.float64, generator=draw)
    near, centres = group(points, n, k)
    assert near.shape == (2, n, k, 5)
    for cloud, patches, middles in zip(points, near, centres, strict=True):
        for patch, centre in zip(patches, middles, strict=True):
            away = (cloud[:, :3] - centre).norm(dim=1)
            torch.testing.assert_close(patch[:, :3].norm(dim=1), away.sort()[0][:k])
            assert {tuple(x) for x in patch[:, 3:].tolist()} == {
                tuple(x) for x in cloud[away.argsort()[:k], 3:].tolist()
            }


def test_a_patch_needs_its_points() -> None:
    with pytest.raises(ValueError, match="5 points, a patch has 8"):
        group(torch.rand(1, 5, 3), 2, 8)


def test_words_rebuild_what_they_are_trained_on() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, points = DVAE(DVAEConfig(8, 6, 16, 16, 16, 16)), torch.rand(4, 48, 3)
        first, last = learn(model, lambda: losses(model(points))[0], 20)
    assert last < 0.6 * first


def test_words_of_what_is_not_seen_are_learned() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, points = MaskedPointBert(SIZES, WORDS), torch.rand(4, 48, 3)
        given = model.tokenizer.state_dict()["codebook"].clone()
        first, last = learn(model, lambda: model.loss(points, 0.4, torch.Generator().manual_seed(0)), 25)
    assert last < first / 2
    assert torch.equal(model.tokenizer.codebook, given)


def learn(model: torch.nn.Module, loss: Callable[[], Tensor], steps: int) -> tuple[float, float]:
    optimiser, seen = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3), []
    for _ in range(steps):
        seen.append(loss())
        optimiser.zero_grad()
        seen[-1].backward()
        optimiser.step()
    return seen[0].item(), seen[-1].item()


def patch_names() -> set[str]:
    parts = [(f"encoder.{n}_conv.{i}", p) for n in ("first", "second") for i in (0, 3) for p in ("weight", "bias")]
    parts += [(f"encoder.{n}_conv.1", p) for n in ("first", "second") for p in NORM]
    return {f"{n}.{p}" for n, p in parts}


def transformer_names(depth: int) -> set[str]:
    layers = ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.qkv.weight"]
    layers += [f"{n}.{p}" for n in ("attn.proj", "mlp.fc1", "mlp.fc2") for p in ("weight", "bias")]
    around = [f"{n}.{p}" for n in ("reduce_dim", "pos_embed.0", "pos_embed.2", "norm") for p in ("weight", "bias")]
    return {f"blocks.blocks.{i}.{n}" for i in range(depth) for n in layers} | {*around, "cls_token", "cls_pos"}


def tokenizer_names() -> set[str]:
    found = patch_names() | {"codebook"}
    for graph in ("dgcnn_1", "dgcnn_2"):
        found |= {f"{graph}.input_trans.{p}" for p in ("weight", "bias")}
        found |= {f"{graph}.layer{k}.{p}" for k in range(1, 6) for p in ("0.weight", "1.weight", "1.bias")}
    found |= {f"decoder.{n}.{p}" for n in ("mlp.0", "mlp.2", "mlp.4") for p in ("weight", "bias")}
    found |= {f"decoder.final_conv.{i}.{p}" for i in (0, 3, 6) for p in ("weight", "bias")}
    return found | {f"decoder.final_conv.{i}.{p}" for i in (1, 4) for p in NORM}


def test_names_are_those_that_were_released() -> None:
    with torch.device("meta"):
        models = PointBertClassifier(PointBertConfig()), MaskedPointBert(PointBertConfig(cls_dim=512), DVAEConfig())
    classifier, masked = (m.keymap.theirs(m.state_dict()) for m in models)
    own = patch_names() | transformer_names(12)
    ends = {f"cls_head_finetune.{i}.{p}" for i in (0, 3) for p in ("weight", "bias")}
    assert classifier.keys() == own | ends
    assert classifier["blocks.blocks.3.attn.qkv.weight"].shape == (1152, 384)
    assert classifier["cls_pos"].shape == (1, 1, 384)
    own |= {f"{n}.{p}" for n in ("lm_head", "cls_head.0", "cls_head.2") for p in ("weight", "bias")} | {"mask_token"}
    assert masked.keys() == {f"transformer_q.{n}" for n in own} | {f"dvae.{n}" for n in tokenizer_names()}


def released(names: dict[str, Tensor]) -> dict[str, object]:
    """As a training over several cards writes it."""
    return {
        "epoch": 299,
        "metrics": {"acc": torch.tensor(93.2)},
        "base_model": {f"module.{n}": x for n, x in names.items()},
    }


@torch.no_grad()
def test_released_files_are_read_whole(tmp_path: Path) -> None:
    classifier, masked = (m.float() for m in tiny())
    points = torch.rand(1, 24, 3)
    torch.save(released(classifier.keymap.theirs(classifier.state_dict())), tmp_path / "classifier.pth")
    again = PointBertClassifier.load(tmp_path / "classifier.pth", SIZES)
    assert torch.equal(again(points), classifier(points))

    theirs = masked.keymap.theirs(masked.state_dict())
    copy = {n.replace("transformer_q", "transformer_k"): x for n, x in theirs.items() if "transformer_q" in n}
    queue = {"queue": torch.rand(5, 16), "queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save(released({**theirs, **copy, **queue}), tmp_path / "Point-BERT.pth")
    again = MaskedPointBert.load(tmp_path / "Point-BERT.pth", SIZES, WORDS)
    assert torch.equal(again.label(*masked.encoder.group(points)), masked.label(*masked.encoder.group(points)))
    assert all(torch.equal(again.state_dict()[n], x) for n, x in masked.state_dict().items())

    torch.save(released({**theirs, "transformer_q.lm_head.scale": torch.ones(1)}), tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth: unknown: transformer_q\.lm_head\.scale"):
        MaskedPointBert.load(tmp_path / "other.pth", SIZES, WORDS)
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no 'base_model'"):
        DVAE.load(tmp_path / "other.pth", WORDS)
