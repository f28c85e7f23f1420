"""Clouds over time: folders, globs and recordings tile time, and no point is lost or moved."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from clouds import write_npz, write_pcd, write_text
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.modalities.pointcloud.sweeps import MESH_POINTS, read_sweeps


def recording(seed: int, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = np.sort(rng.integers(0, max(n // 3, 1), n)).astype("i4")
    return {
        "frame": frame,
        "t": 5 + frame * 0.1 + np.arange(n) * 1e-6,
        "xyz": rng.normal(size=(n, 3)).astype("f4"),
        "velocity": rng.normal(size=n).astype("f4"),
        "intensity": rng.uniform(size=n).astype("f4"),
        "bearing": rng.normal(size=n),
    }


@given(st.integers(0, 2**32), st.integers(1, 80), st.floats(0.05, 3))
def test_a_recording_is_cut_on_its_own_clock(seed, n, hop):
    arrays = recording(seed, n)
    sweeps = list(read_sweeps(_named(write_npz(**arrays)), hop))
    assert sweeps[0][0] == pytest.approx(arrays["t"][0])
    for i, (start, end, _) in enumerate(sweeps):
        assert start == pytest.approx(arrays["t"][0] + i * hop)
        assert end == pytest.approx(start + hop)
    points = torch.cat([p for _, _, p in sweeps])
    np.testing.assert_array_equal(points[:, :3], arrays["xyz"])
    np.testing.assert_array_equal(points[:, 9], arrays["velocity"])
    np.testing.assert_array_equal(points[:, 10], arrays["intensity"])
    sizes = np.cumsum([0, *(len(p) for _, _, p in sweeps)])
    for edge in sizes[1:-1]:  # no frame is cut in two
        assert edge in (0, n) or arrays["frame"][edge] != arrays["frame"][edge - 1]
    for i, (start, end, p) in enumerate(sweeps):
        first = [arrays["t"][np.argmax(arrays["frame"] == f)] for f in arrays["frame"][sizes[i] : sizes[i] + len(p)]]
        assert all(start - 1e-9 <= t < end + 1e-9 for t in first)


def _named(data: bytes) -> io.BytesIO:
    file = io.BytesIO(data)
    file.name = "recording.npz"  # type: ignore[attr-defined]
    return file


def test_a_folder_in_the_order_of_its_numbers(tmp_path: Path):
    for i in (0, 2, 10, 1):
        (tmp_path / f"scan{i}.pcd").write_bytes(write_pcd({k: np.full(i + 1, i, "f4") for k in "xyz"}, "binary"))
    (tmp_path / "notes.txt").write_text("not a cloud")
    (tmp_path / "labels.bin").write_bytes(b"no")
    for source in (tmp_path, str(tmp_path / "*.pcd")):
        sweeps = list(read_sweeps(source, 0.1))
        assert [len(p) for _, _, p in sweeps] == [1, 2, 3, 11]
        assert [(round(s, 9), round(e, 9)) for s, e, _ in sweeps] == [(0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4)]


def test_one_cloud_is_one_sweep(tmp_path: Path):
    path = tmp_path / "a.xyz"
    path.write_bytes(write_text({k: np.arange(4, dtype="f4") for k in "xyz"}))
    ((start, end, points),) = read_sweeps(path, 0.5)
    assert (start, end, points.shape) == (0.0, 0.5, (4, 11))


def test_a_mesh_is_its_surface(tmp_path: Path):
    path = tmp_path / "a.off"
    path.write_text("OFF\n4 2 0\n0 0 0\n2 0 0\n2 2 0\n0 2 0\n3 0 1 2\n3 0 2 3\n")
    ((_, _, points),) = read_sweeps(path, 0.5)
    assert len(points) == MESH_POINTS
    assert points[:, 2].abs().max() == 0
    torch.testing.assert_close(points[:, :2].mean(0), torch.ones(2), rtol=0, atol=0.03)
    torch.testing.assert_close(points[:, :2].var(0), torch.full((2,), 4 / 12), rtol=0, atol=0.02)


def test_what_came_before_a_bad_file_is_delivered(tmp_path: Path):
    for i in range(3):
        (tmp_path / f"{i}.pcd").write_bytes(
            write_pcd({k: np.ones(2, "f4") for k in "xyz"}, "binary")[: -1 if i == 2 else None]
        )
    sweeps = read_sweeps(tmp_path, 0.1)
    assert [len(next(sweeps)[2]) for _ in range(2)] == [2, 2]
    with pytest.raises(MediaError, match=r"2\.pcd"):
        next(sweeps)


@pytest.mark.parametrize("change", ["back", "nan", "short", "huge"])
def test_bad_clocks(change):
    arrays = recording(1, 30)
    t = arrays["t"].copy()
    if change == "back":
        t[20] -= 3
    elif change == "nan":
        t[20] = np.nan
    elif change == "huge":
        t[29] = 1e10
        arrays["frame"][29] += 1
    arrays["t"] = t[:10] if change == "short" else t
    with pytest.raises(LimitError if change == "huge" else MediaError):
        list(read_sweeps(_named(write_npz(**arrays)), 0.1))


def test_empty_places(tmp_path: Path):
    for source in (tmp_path, str(tmp_path / "*.pcd")):
        with pytest.raises(SourceError, match="no point clouds"):
            list(read_sweeps(source, 0.1))


def test_real_radar(shared_data: Path):
    with tarfile.open(shared_data / "train" / "radhar-val.tar") as tar:
        member = next(m for m in tar if m.name.endswith(".npz"))
        data = tar.extractfile(member).read()
    arrays = dict(np.load(io.BytesIO(data)))
    sweeps = list(read_sweeps(_named(data), 0.5))
    assert sum(len(p) for _, _, p in sweeps) == len(arrays["t"])
    assert sweeps[-1][1] - sweeps[0][0] == pytest.approx(arrays["t"][-1] - arrays["t"][0], abs=0.5)
