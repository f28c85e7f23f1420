"""Parting a cloud, against loops over its points; sweeps into hops; odd clouds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from streams import stream, tiny

from mmworld.errors import LimitError, MediaError
from mmworld.modalities.pointcloud import blocks
from mmworld.modalities.pointcloud.blocks import PointBlocks, Sweeps
from mmworld.modalities.pointcloud.encoder import PointStem, part
from mmworld.types import Chunk


def slow_part(xyz: torch.Tensor, n_centres: int, part_points: int) -> tuple[torch.Tensor, list[int]]:
    """Farthest points one by one, and each point's nearest of them; on integer points, exact."""
    points = [tuple(p) for p in xyz.tolist()]

    def squared(a: tuple[float, ...], b: tuple[float, ...]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    most = min(n_centres, -(-len(points) // part_points))
    centres = [max(range(len(points)), key=lambda i: (squared(points[i], (0.0, 0.0, 0.0)), -i))]
    while len(centres) < most:
        gaps = [min(squared(p, points[c]) for c in centres) for p in points]
        if max(gaps) == 0:
            break
        centres.append(gaps.index(max(gaps)))
    cells = [min(range(len(centres)), key=lambda j: (squared(p, points[centres[j]]), j)) for p in points]
    return xyz[centres], cells


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    n_centres=st.integers(1, 5),
    part_points=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_parts_are_those_of_a_loop(counts: list[int], n_centres: int, part_points: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    xyz = torch.randint(-3, 4, (sum(counts), 3), generator=g).float()
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    centres, cells = part(xyz, owner, len(counts), n_centres, part_points)
    for i, mine in enumerate(xyz.split(counts)):
        if len(mine):
            expected, nearest = slow_part(mine, n_centres, part_points)
            torch.testing.assert_close(centres[i * n_centres :][: len(expected)], expected)
            assert (cells[owner == i] - i * n_centres).tolist() == nearest


@given(n=st.integers(1, 40), limit=st.integers(1, 12))
def test_a_dense_block_is_thinned_evenly(n: int, limit: int) -> None:
    stem = PointStem(8, 4, 4, 4, max_points=limit)
    points = torch.zeros(n + 3, 11)
    points[:, 0] = torch.arange(n + 3)
    block = torch.tensor([0] * n + [1] * 3)
    kept, owner, _ = stem._join([PointBlocks(points, torch.zeros(n + 3), block, 2)], torch.device("cpu"))
    mine = kept[owner == 0, 0].long().tolist()
    assert len(mine) == min(n, limit)
    assert mine == [next(r for r in range(n) if r * min(n, limit) // n == i) for i in range(len(mine))]
    assert int((owner == 1).sum()) == min(3, limit)


def test_a_sweep_belongs_to_the_hop_it_starts_in() -> None:
    cutter, times = Sweeps(0.25), [10.0, 10.1, 10.25, 10.6, 11.3]
    state, got = cutter.init_state(), []
    for i, t in enumerate(times):
        got.append(cutter.cut(Chunk(torch.full((2, 3), float(i)), t, t + 0.05, "points", last=i == 4), state))
    owners = [
        (float(b.start[k]), float(v)) for b in got for k, v in zip(b.data.block, b.data.points[:, 0], strict=True)
    ]
    assert sorted(set(owners)) == [(10.0, 0.0), (10.0, 1.0), (10.25, 2.0), (10.5, 3.0), (11.25, 4.0)]
    assert [s for b in got for s in b.start.tolist()] == [10.0 + 0.25 * i for i in range(6)]
    assert float(got[-1].end[-1]) == pytest.approx(11.35)


def test_the_time_column_is_the_time_of_its_sweep() -> None:
    encoder, g = tiny("points"), torch.Generator().manual_seed(0)
    sweeps = [torch.randn(5, 11, generator=g) for _ in range(16)]
    apart = [Chunk(s, 7 + i / 16, 7 + (i + 1) / 16, "points", last=i == 15) for i, s in enumerate(sweeps)]
    column = torch.arange(16).repeat_interleave(5)[:, None] / 16
    together = Chunk(torch.cat((torch.cat(sweeps), column), dim=1), 7.0, 8.0, "points", last=True)
    state = encoder.init_state()
    parts = torch.cat([encoder.encode(c, state).x for c in apart])
    torch.testing.assert_close(parts, encoder.encode(together).x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 17])
@pytest.mark.parametrize("kind", ["random", "same", "line", "huge", "not finite"])
def test_odd_clouds_give_finite_tokens(n: int, kind: str) -> None:
    points = torch.randn(n, 11, generator=torch.Generator().manual_seed(n))
    if kind == "same":
        points[:] = 3.0
    elif kind == "line":
        points[:, 1:3] = 0
    elif kind == "huge":
        points *= 1e38
    elif kind == "not finite":
        points[::2] = torch.nan
        points[1::2] = torch.inf
    tokens = tiny("points").encode(Chunk(points, 0.0, 0.1, "points", last=True))
    assert len(tokens.blocks) == 1
    assert tokens.x.isfinite().all()


def test_a_still_cloud_is_a_block_of_no_length() -> None:
    tokens = tiny("points").encode(Chunk(torch.randn(9, 6), 3.0, 3.0, "points", last=True))
    assert (len(tokens.blocks), float(tokens.start[0]), float(tokens.end[0])) == (1, 3.0, 3.0)


def test_the_order_of_points_in_a_sweep_does_not_matter() -> None:
    chunk = stream("points", 0.2, seed=5)
    data = chunk.data[:10, :11]
    a, b = (tiny("points").encode(Chunk(d, 0.0, 0.2, "points", last=True)).x for d in (data, data.flip(0)))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_faults_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cutter = Sweeps(0.25)
    with pytest.raises(MediaError, match="3 to 12 columns"):
        cutter.cut(Chunk(torch.zeros(4, 13), 0.0, 0.0, "points"), cutter.init_state())
    state = cutter.init_state()
    cutter.cut(Chunk(torch.zeros(1, 3), 0.0, 1.0, "points"), state)
    with pytest.raises(MediaError, match=r"older than 1\.000 s"):
        cutter.cut(Chunk(torch.zeros(1, 3), 0.6, 1.0, "points"), state)
    with pytest.raises(LimitError, match="a gap of"):
        cutter.cut(Chunk(torch.zeros(1, 3), 1e9, 1e9, "points"), state)
    monkeypatch.setattr(blocks, "MAX_POINTS", 5)
    with pytest.raises(LimitError, match="points in"):
        cutter.cut(Chunk(torch.zeros(6, 3), 0.0, 0.1, "points"), cutter.init_state())
