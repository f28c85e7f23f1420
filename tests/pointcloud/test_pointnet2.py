"""PointNet++: balls against brute force and open3d, laws of the network, and the files that were released."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError
from mmworld.modalities.pointcloud.pointnet2 import RELEASED, PointNet2, PointNet2Config, interpolate, single
from mmworld.modalities.pointcloud.sampling import ball_query
from mmworld.models.zoo.parity.equations.pointnet2 import TINY, tiny

SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.integers(1, 60), st.integers(1, 20), st.floats(0.05, 2.0), st.integers(1, 70), st.integers(1, 3))
def test_balls_are_brute_force_and_open3d_s(seed: int, p: int, n: int, radius: float, k: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    xyz, centres = rng.normal(size=(batch, p, 3)), rng.normal(size=(batch, n, 3))
    got = ball_query(torch.from_numpy(xyz), torch.from_numpy(centres), radius, k)
    assert got.shape == (batch, n, k)
    for b in range(batch):
        tree = o3d.geometry.KDTreeFlann(o3d.geometry.PointCloud(o3d.utility.Vector3dVector(xyz[b])))
        for i, centre in enumerate(centres[b]):
            away = [math.dist(centre, point) for point in xyz[b]]
            inside = [j for j, d in enumerate(away) if d <= radius]
            assert sorted(tree.search_radius_vector_3d(centre, radius)[1]) == inside
            inside = inside or [int(np.argmin(away))]
            assert got[b, i].tolist() == (inside + inside[:1] * k)[:k] if len(inside) < k else inside[:k]


@given(SEEDS, st.integers(1, 30), st.integers(1, 30))
def test_between_centres_features_are_between_theirs(seed: int, n: int, p: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    centres, x, xyz = (torch.rand(2, k, 3, dtype=torch.float64, generator=draw) for k in (n, n, p))
    torch.testing.assert_close(interpolate(centres, centres, x), x, rtol=0, atol=1e-4)
    got = interpolate(xyz, centres, x)
    assert bool((got >= x.amin(1, keepdim=True) - 1e-12).all() and (got <= x.amax(1, keepdim=True) + 1e-12).all())


@torch.no_grad()
@given(SEEDS)
def test_neither_order_nor_company_counts_where_balls_hold_all(seed: int) -> None:
    model = tiny(PointNet2Config(5, (single(4, 0.5, 20, 8), single(0, 0.0, 0, 9)), head=(7,)))
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(1, 20, 3, dtype=torch.float64, generator=draw)
    order = torch.cat((torch.zeros(1, dtype=torch.long), 1 + torch.randperm(19, generator=draw)))
    torch.testing.assert_close(model(points[:, order]), model(points))
    torch.testing.assert_close(model(torch.cat((points, points.flip(1))))[:1], model(points))


def released_names(model: str) -> set[str]:
    """As the layers of the released code are called."""
    c, found, norm = (
        RELEASED[model],
        set[str](),
        ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    )
    pairs = [("conv1", "bn1")] if c.up else [("fc1", "bn1"), ("fc2", "bn2")]
    for k, level in enumerate(c.levels, 1):
        for i, scale in enumerate(level.scales):
            for j in range(len(scale.widths)):
                several = len(level.scales) > 1
                at = f"conv_blocks.{i}.{j}", f"bn_blocks.{i}.{j}"
                pairs.append(tuple(f"sa{k}.{n}" for n in (at if several else (f"mlp_convs.{j}", f"mlp_bns.{j}"))))
    for k, widths in enumerate(c.up):
        pairs += [(f"fp{len(c.up) - k}.mlp_convs.{j}", f"fp{len(c.up) - k}.mlp_bns.{j}") for j in range(len(widths))]
    for conv, bn in (*pairs, ("conv2" if c.up else "fc3", None)):
        found |= {f"{conv}.weight", f"{conv}.bias"} | ({f"{bn}.{n}" for n in norm} if bn else set())
    return found


@pytest.mark.parametrize("name", RELEASED)
def test_names_are_those_that_were_released(name: str) -> None:
    with torch.device("meta"):
        model = PointNet2(RELEASED[name])
    theirs = model.keymap.theirs(model.state_dict())
    assert theirs.keys() == released_names(name)
    if name == "pointnet2_cls_ssg":
        assert theirs["sa2.mlp_convs.0.weight"].shape == (128, 131, 1, 1)
        assert theirs["fc3.weight"].shape == (40, 256)


@torch.no_grad()
def test_a_released_file_is_read_whole_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    c, path = TINY["parts"], tmp_path / "best_model.pth"
    model = tiny(c).float()
    held = {"epoch": 7, "class_acc": np.float64(0.5), "model_state_dict": model.keymap.theirs(model.state_dict())}
    torch.save(held, path)
    points = torch.rand(1, 20, 6)
    assert torch.equal(PointNet2.load(path, c)(points, torch.tensor([1])), model(points, torch.tensor([1])))
    del held["model_state_dict"]["fp1.mlp_bns.0.bias"]
    torch.save(held, path)
    with pytest.raises(CheckpointError, match=r"best_model\.pth: missing: fp1\.mlp_bns\.0\.bias"):
        PointNet2.load(path, c)
    torch.save({"model_state_dict": os.system}, path)
    with pytest.raises(CheckpointError, match="tensors alone"):
        PointNet2.load(path, c)


def test_parts_need_the_kind_of_the_object() -> None:
    with pytest.raises(ValueError, match="kinds"):
        tiny(TINY["parts"])(torch.rand(1, 20, 6, dtype=torch.float64))
