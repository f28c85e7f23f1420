"""The readers give back what was written, whatever the format, encoding and types; and agree with Open3D."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from clouds import pack_rgb, write_npy, write_npz, write_obj, write_off, write_pcd, write_ply, write_text
from hypothesis import given
from hypothesis import strategies as st

from mmworld.modalities.pointcloud.readers import COLUMNS, Cloud, read_cloud, read_file
from mmworld.modalities.pointcloud.readers.scan import fan

ENCODINGS = ("ascii", "binary_little_endian", "binary_big_endian")
FLOATS = st.sampled_from(["f4", "f8"])
ENDS = st.sampled_from(["\n", "\r\n"])


@st.composite
def clouds(draw, colours=True, normals=True, least=0):
    """Columns as a file types them: x, y, z, perhaps uint8 colours, normals, velocity and intensity."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(least, 40))
    floats = [*"xyz"]
    floats += ["nx", "ny", "nz"] if normals and draw(st.booleans()) else []
    floats += [k for k in ("velocity", "intensity") if normals and draw(st.booleans())]
    columns = {k: rng.uniform(-90, 90, n).astype(draw(FLOATS)) for k in floats}
    if colours and draw(st.booleans()):
        columns |= {k: rng.integers(0, 256, n).astype("u1") for k in "rgb"}
    return columns


def polygons(n: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, n, rng.integers(3, 7)).tolist() for _ in range(seed % 9)]


def triangles(faces: list[list[int]]) -> list[list[int]]:
    return sorted([f[0], f[i], f[i + 1]] for f in faces for i in range(1, len(f) - 1))


def expect(columns) -> np.ndarray:
    points = np.zeros((len(columns["x"]), 11), np.float32)
    for key, values in columns.items():
        points[:, COLUMNS.index(key)] = values.astype(np.float32) / 255 if key in "rgb" else values
    return points


def check(cloud: Cloud, columns, faces=None) -> None:
    np.testing.assert_allclose(cloud.points.numpy(), expect(columns), rtol=1e-6, atol=1e-7)
    assert cloud.present == set(columns) or len(columns["x"]) == 0
    assert cloud.dropped == 0
    if faces:
        assert sorted(cloud.faces.tolist()) == triangles(faces)
    else:
        assert cloud.faces is None


def read(data: bytes, name: str) -> Cloud:
    return read_file(io.BytesIO(data), name)


@given(clouds(), st.sampled_from(ENCODINGS), ENDS, st.integers(0, 99))
def test_ply(columns, encoding, end, seed):
    faces = polygons(len(columns["x"]), seed) if len(columns["x"]) else []
    extra = columns | {"alpha": np.full(len(columns["x"]), 7, "u1"), "label": np.arange(len(columns["x"]), dtype="i4")}
    check(read(write_ply(extra, encoding, faces, end), "a.ply"), columns, faces)


@given(clouds(), st.sampled_from(["ascii", "binary", "binary_compressed"]), ENDS, st.booleans())
def test_pcd(columns, encoding, end, as_float):
    written = pack_rgb(columns) if "r" in columns else dict(columns)
    if as_float and "rgb" in written:
        written["rgb"] = written["rgb"].view(np.float32)
    check(read(write_pcd(written, encoding, end), "a.pcd"), columns)


@given(clouds(normals=False, least=1), st.sampled_from([" ", "\t", ",", ";"]), ENDS)
def test_xyz(columns, delimiter, end):
    if "r" in columns:
        columns["r"][0] = 255  # else 0 and 1 could be either scale
    data = write_text(columns, delimiter, end)
    check(read(data, "a.xyz"), columns)
    check(read(b"# a comment\n\n" + data.rstrip(), "a.txt"), columns)


@given(clouds(colours=False, normals=False))
def test_pts_begins_with_its_count(columns):
    check(read(write_text(columns, count=True), "a.pts"), columns)


@given(clouds(normals=False, least=1), st.integers(0, 99), st.booleans())
def test_off(columns, seed, glued):
    faces = polygons(len(columns["x"]), seed)
    if "r" in columns:
        columns["r"][0] = 255
    check(read(write_off(columns, faces, "C" if "r" in columns else "", glued), "a.off"), columns, faces)


@given(clouds(colours=False, normals=False, least=1), st.integers(0, 99), st.sampled_from(["{0}", "{0}/1/2", "{0}//1"]))
def test_obj(columns, seed, style):
    faces = polygons(len(columns["x"]), seed)
    check(read(write_obj(columns, faces, style), "a.obj"), columns, faces)


def test_obj_counts_negative_corners_from_the_last_vertex():
    cloud = read(b"v 0 0 0\nv 1 0 0 \nv 0 1 0\nf -3 -2 -1\nv 5 5 5\nv 6 6 6\nf -1 -2 1\n", "a.obj")
    assert cloud.faces.tolist() == [[0, 1, 2], [4, 3, 0]]


@given(clouds(least=1), FLOATS, st.booleans())
def test_npy(columns, dtype, fortran):
    points = expect(columns)[:, :3].astype(dtype)
    cloud = read(write_npy(np.asarray(points, order="F" if fortran else "C")), "a.npy")
    check(cloud, {k: points[:, i] for i, k in enumerate("xyz")})
    record = np.zeros(len(points), [(k, v.dtype) for k, v in columns.items()])
    for key, values in columns.items():
        record[key] = values
    check(read(write_npy(record), "a.npy"), columns)


@given(clouds(least=1))
def test_npz(columns):
    arrays = {"xyz": np.stack([columns[k] for k in "xyz"], 1)} | {
        k: v for k, v in columns.items() if k in ("velocity", "intensity")
    }
    for key, names in (("rgb", "rgb"), ("normals", ("nx", "ny", "nz"))):
        if names[0] in columns:
            arrays[key] = np.stack([columns[k] for k in names], 1)
    check(read(write_npz(**arrays), "a.npz"), columns)


@given(st.integers(1, 50), st.integers(0, 2**32), st.sampled_from([4, 6]))
def test_bare_records(n, seed, width):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-80, 80, (n, width)).astype("<f4")
    points[:, 2] = rng.uniform(1.5, 80, n)  # never a reflectance: else a few records could be of either width
    points[:, 0], points[:, 1] = points[:, 2] * 1.1, -points[:, 2]
    points[:, 3:] = rng.uniform(0, 1, (n, width - 3))
    cloud = read(points.tobytes(), "a.bin")
    np.testing.assert_array_equal(cloud.points[:, :3], points[:, :3])
    first = COLUMNS.index("intensity" if width == 4 else "r")
    np.testing.assert_array_equal(cloud.points[:, first : first + width - 3], points[:, 3:])


def test_bare_records_with_reflectance_to_255_and_of_nuscenes():
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (60, 5)).astype("<f4")
    points[:, 3], points[:, 4] = rng.integers(0, 256, 60), rng.integers(0, 32, 60)
    for width in (4, 5):
        cloud = read(points[:, :width].tobytes(), "a.bin")
        np.testing.assert_array_equal(cloud.points[:, [0, 1, 2, 10]], points[:, :4])


def test_fan_of_a_square():
    assert fan(np.array([[4, 5, 6, 7]])).tolist() == [[4, 5, 6], [4, 6, 7]]


@pytest.mark.parametrize("name", ["milk", "region_growing_tutorial", "capture0001", "object_template_0", "lamppost"])
def test_real_clouds_are_as_open3d_reads_them(shared_data: Path, name):
    path = shared_data / "media" / "pointcloud" / "pcl" / f"{name}.pcd"
    theirs = o3d.io.read_point_cloud(str(path), remove_nan_points=True)
    ours = read_cloud(path)
    np.testing.assert_allclose(ours.points[:, :3], np.asarray(theirs.points), rtol=1e-6, atol=1e-7)
    if name != "milk" and theirs.has_colors():  # rgba, which Open3D does not read
        np.testing.assert_allclose(ours.points[:, 3:6], np.asarray(theirs.colors), atol=1e-6)


@pytest.mark.parametrize("name", ["stanford-bunny", "teapot", "cow", "beetle"])
def test_real_meshes_are_as_open3d_and_a_plain_loop_read_them(shared_data: Path, name):
    path = shared_data / "media" / "mesh" / f"{name}.obj"
    ours = read_cloud(path)
    lines = [line.split() for line in path.read_text().splitlines()]
    np.testing.assert_allclose(ours.points[:, :3], [[float(w) for w in s[1:4]] for s in lines if s[:1] == ["v"]])
    plain = [[int(w.split("/")[0]) - 1 for w in s[1:]] for s in lines if s[:1] == ["f"]]
    assert sorted(ours.faces.tolist()) == triangles(plain)
    theirs = o3d.io.read_triangle_mesh(str(path))
    assert len(theirs.triangles) == len(ours.faces)
    corners = ours.points[:, :3].double()[ours.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    assert area == pytest.approx(theirs.get_surface_area(), rel=1e-5)


@pytest.mark.parametrize("ascii_", [True, False])
def test_what_open3d_writes_is_read(tmp_path: Path, ascii_):
    rng = np.random.default_rng(0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(rng.normal(size=(50, 3))))
    cloud.colors = o3d.utility.Vector3dVector(rng.integers(0, 256, (50, 3)) / 255)
    cloud.normals = o3d.utility.Vector3dVector(rng.normal(size=(50, 3)))
    want = np.concatenate([np.asarray(a) for a in (cloud.points, cloud.colors, cloud.normals)], 1)
    for name, compressed in (("a.ply", False), ("a.pcd", False), ("b.pcd", True)):
        path = tmp_path / name
        assert o3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii_, compressed=compressed)
        np.testing.assert_allclose(read_cloud(path).points[:, :9], want, atol=1e-5)


def test_kitti_and_sun_scans(shared_data: Path):
    folder = shared_data / "media" / "pointcloud"
    kitti = np.fromfile(folder / "kitti" / "000008.bin", "<f4").reshape(-1, 4)
    cloud = read_cloud(folder / "kitti" / "000008.bin")
    np.testing.assert_array_equal(cloud.points[:, [0, 1, 2, 10]], kitti)
    sun = np.fromfile(folder / "sunrgbd" / "000017.bin", "<f4").reshape(-1, 6)
    np.testing.assert_array_equal(read_cloud(folder / "sunrgbd" / "000017.bin").points[:, :6], sun)
