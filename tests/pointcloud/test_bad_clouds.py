"""Damaged and hostile clouds: each is refused by the stated error, or read with what is wrong dropped and counted."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import tracemalloc
import zipfile
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
from clouds import lzf_compress, write_npy, write_npz, write_obj, write_off, write_pcd, write_ply, write_text
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import LimitError, MediaError
from mmworld.modalities.pointcloud.readers import Cloud, lzf, read_cloud, read_file
from mmworld.modalities.pointcloud.sampling import voxel_grid

XYZ = {k: np.arange(20, dtype="f4") for k in "xyz"}
SQUARE = [[0, 1, 2, 3]]
FILES = {
    "ascii.ply": write_ply(XYZ, "ascii", SQUARE),
    "little.ply": write_ply(XYZ, "binary_little_endian", SQUARE),
    "big.ply": write_ply(XYZ, "binary_big_endian", SQUARE),
    "ascii.pcd": write_pcd(XYZ, "ascii"),
    "binary.pcd": write_pcd(XYZ, "binary"),
    "compressed.pcd": write_pcd(XYZ, "binary_compressed"),
    "mesh.off": write_off(XYZ, SQUARE),
    "cloud.npy": write_npy(np.stack(list(XYZ.values()), 1)),
    "cloud.npz": write_npz(xyz=np.stack(list(XYZ.values()), 1)),
    "cloud.pts": write_text(XYZ, count=True),
}


def read(data: bytes, name: str) -> Cloud:
    return read_file(io.BytesIO(data), name)


@contextmanager
def within(megabytes: float):
    """What is allocated inside stays below this: tracemalloc sees numpy's arrays and Python's objects."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


def refused(data: bytes, name: str, match: str | None = None) -> MediaError:
    with within(8), pytest.raises(MediaError, match=match) as caught:
        read(data, name)
    assert caught.value.exit_code == 4
    assert name in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", FILES)
@given(share=st.floats(0.05, 0.97))
def test_a_cut_file_is_refused(name, share):
    data = FILES[name]
    error = refused(data[: int(len(data) * share)], name)
    assert error.code in ("truncated", "format")


@pytest.mark.parametrize("name", ["little.ply", "big.ply", "binary.pcd", "compressed.pcd", "cloud.npy", "cloud.npz"])
def test_one_byte_short_is_truncated(name):
    assert refused(FILES[name][:-1], name).code == "truncated"


@pytest.mark.parametrize("count", ["1000000000", str(2**63), "-1", "1e9", "", "9" * 40])
@pytest.mark.parametrize("name", ["ascii.ply", "little.ply", "ascii.pcd", "binary.pcd", "compressed.pcd", "mesh.off"])
def test_a_count_is_held_against_the_bytes_that_are_there(name, count):
    data = (
        FILES[name]
        .replace(b"vertex 20", b"vertex " + count.encode())
        .replace(b"POINTS 20", b"POINTS " + count.encode())
    )
    data = data.replace(b"WIDTH 20", b"WIDTH " + count.encode()).replace(b"20 1 0", count.encode() + b" 1 0")
    assert data != FILES[name]
    refused(data, name)


def test_a_count_of_faces_too():
    for name in ("ascii.ply", "little.ply", "big.ply"):
        refused(FILES[name].replace(b"face 1", b"face 4000000000"), name)
    refused(FILES["mesh.off"].replace(b"20 1 0", b"20 400000000 0"), "mesh.off")


@pytest.mark.parametrize(("old", "new"), [(b"float z", b"float w"), (b"float z", b"quad z"), (b"float z", b"float y")])
def test_ply_without_z_or_of_unknown_type(old, new):
    for name in ("ascii.ply", "little.ply"):
        assert refused(FILES[name].replace(old, new), name).code == "format"


def test_a_header_is_at_most_64_kb():
    long = b"ply\nformat ascii 1.0\ncomment " + b"x" * 5_000_000 + b"\nend_header\n"
    with pytest.raises(LimitError, match="65536"):
        read(long, "a.ply")
    with pytest.raises(LimitError, match="65536"):
        read(b"# .PCD v.7\n" + b"# comment\n" * 10_000, "a.pcd")
    with pytest.raises(LimitError, match="65536"):
        read(b"1 2 " + b"3" * 100_000, "a.xyz")


@pytest.mark.parametrize("order", "<>")
def test_lists_are_bounded_and_faces_name_points_that_are_there(order):
    encoding = "binary_little_endian" if order == "<" else "binary_big_endian"
    head = write_ply(XYZ, encoding, SQUARE)[:-18].replace(b"list uchar int", b"list uint int")
    refused(head + struct.pack(order + "BI4i", 0, 2**32 - 1, 0, 1, 2, 3), "a.ply", "4294967295")
    refused(head + struct.pack(order + "BI4i", 0, 4, 0, 1, 2, 20), "a.ply", "point 20")
    refused(head + struct.pack(order + "BI4i", 0, 4, 0, 1, 2, -1), "a.ply", "point -1")
    assert len(read(head + struct.pack(order + "BI4i", 0, 4, 0, 1, 2, 19), "a.ply").faces) == 2


@pytest.mark.parametrize("face", [[0, 1, 20], [0, 1, 10**17]])
def test_text_faces_name_points_that_are_there(face):
    assert refused(write_ply(XYZ, "ascii", [face]), "a.ply").code == "index"
    assert refused(write_off(XYZ, [face]), "a.off").code == "index"
    assert refused(write_obj(XYZ, [face]), "a.obj").code == "index"


@pytest.mark.parametrize("word", ["0", "-21", "x", "1.5", "/1", "9" * 30])
def test_obj_corners(word):
    refused(write_obj(XYZ, []) + f"f 1 2 {word}\n".encode(), "a.obj", "row 24")


@pytest.mark.parametrize("line", ["v", "v 1 2", "v 1 2 x", "vx 1 2 3", "\\"])
def test_obj_lines(line):
    refused(write_obj(XYZ, []) + f"{line}\n".encode(), "a.obj", "row 24")


def test_pcd_lies():
    binary, packed = FILES["binary.pcd"], FILES["compressed.pcd"]
    refused(binary.replace(b"COUNT 1 1 1", b"COUNT 1 1 100000000"), "a.pcd", "COUNT 100000000")
    refused(binary.replace(b"COUNT 1 1 1", b"COUNT 1 1 0"), "a.pcd")
    refused(binary.replace(b"WIDTH 20", b"WIDTH 21"), "a.pcd", "WIDTH 21")
    refused(binary.replace(b"SIZE 4 4 4", b"SIZE 4 4 3"), "a.pcd")
    refused(binary.replace(b"FIELDS x y z", b"FIELDS x y"), "a.pcd")
    refused(binary.replace(b"FIELDS x y z", b"FIELDS x y y"), "a.pcd")
    refused(binary.replace(b"DATA binary", b"DATA zstd"), "a.pcd", "zstd")
    start = packed.index(b"compressed\n") + len(b"compressed\n")
    for lie in ((2**32 - 1, 240), (len(packed), 240), (8, 2**32 - 1), (0, 0)):
        refused(packed[:start] + struct.pack("<II", *lie) + packed[start + 8 :], "a.pcd")


def test_words_in_rows_are_named_by_row():
    rows = ["0 0 0"] * 5000
    rows[7], rows[99], rows[4000] = "0 zero 0", "1 2", "nothing at all, really"
    error = refused("\n".join(rows).encode(), "a.xyz")
    assert "row 8: 'zero'" in str(error)
    assert "row 100" in str(error)
    assert "row 4001" in str(error)
    refused(write_ply(XYZ, "ascii").replace(b"4.0 4.0 4.0", b"4.0 4.0 1_0"), "a.ply", "row 13: '1_0'")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38, 1e300])
def test_points_without_a_place_are_dropped_and_counted(bad):
    columns = {k: v.astype("f8") for k, v in XYZ.items()} | {"intensity": np.full(20, 0.5)}
    columns["y"][3] = columns["z"][7] = bad
    columns["intensity"][5] = bad
    for data, name in (
        (write_ply(columns, "binary_big_endian"), "a.ply"),
        (write_ply(columns, "ascii"), "a.ply"),
        (write_pcd(columns, "binary_compressed"), "a.pcd"),
        (write_text(columns), "a.xyz"),
        (write_npy(np.stack(list(columns.values()), 1)), "a.npy"),
    ):
        cloud = read(data, name)
        assert cloud.dropped == 2
        assert len(cloud.points) == 18
        assert torch.isfinite(cloud.points).all()
        assert cloud.points[4, 10] == 0  # point 5, now the fifth
        assert torch.isfinite(voxel_grid(cloud.points, 1e-9)).all()


def test_faces_follow_the_points_that_are_kept():
    columns = {k: np.arange(5, dtype="f4") for k in "xyz"}
    columns["x"][1] = np.nan
    cloud = read(write_ply(columns, "binary_little_endian", [[0, 1, 2], [2, 3, 4], [0, 2, 4]]), "a.ply")
    assert cloud.faces.tolist() == [[1, 2, 3], [0, 1, 3]]


def test_empty_and_single():
    for n in (0, 1):
        columns = {k: np.zeros(n, "f4") for k in "xyz"}
        for data, name in (
            (write_ply(columns, "ascii"), "a.ply"),
            (write_ply(columns, "binary_little_endian"), "a.ply"),
            (write_pcd(columns, "binary"), "a.pcd"),
            (write_npy(np.zeros((n, 3), "f4")), "a.npy"),
        ):
            assert read(data, name).points.shape == (n, 11)
    assert refused(b"", "a.ply").code == "empty"


def test_npy_is_never_unpickled():
    class Bomb:
        def __reduce__(self):
            return print, ("the pickle ran",)

    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    refused(file.getvalue(), "a.npy", "no objects")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("xyz.npy", file.getvalue())
        z.writestr("more.pkl", pickle.dumps(Bomb()))
    refused(archive.getvalue(), "a.npz", "no objects")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1267650600228229401496703205376, 0)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (20, 3, 4)}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (20, 3)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (20, 3)}",
        "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (20, 3)}",
        "{'descr': 'V0', 'fortran_order': False, 'shape': (20, 3)}",
        "{'descr': [('x', '<f4', (3,))], 'fortran_order': False, 'shape': (20,)}",
        "{'descr': '<f4', 'shape': (20, 3)}",
        "[" * 5000,
        "__import__('os')",
        "1" * 9000,
    ],
)
def test_npy_headers(header):
    text = header.encode()
    refused(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(240), "a.npy")


def test_npz_bombs():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        data = write_npy(np.zeros((3_000, 3)))
        for i in range(100):
            z.writestr(f"{i}.npy", data)
    refused(archive.getvalue(), "a.npz", "100 arrays")


@pytest.mark.parametrize("head", [b"glTF\2\0\0\0", b"LASF\0\0", b"Kaydara FBX", b"solid cube\n"])
def test_other_formats_are_refused_with_a_cure(head):
    name = "a.stl" if head.startswith(b"solid") else "a.dat"
    assert "convert" in refused(head + bytes(100), name).hint


def test_a_pipe_is_read_like_a_file():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation("seek")

    for name in ("ascii.ply", "little.ply", "compressed.pcd", "cloud.npy"):
        assert torch.equal(read_cloud(Pipe(FILES[name])).points, read(FILES[name], name).points)


def test_obj_opens_no_other_file(tmp_path, monkeypatch):
    path = tmp_path / "a.obj"
    path.write_bytes(write_obj(XYZ, SQUARE))
    opened = []
    import os

    real = os.open
    monkeypatch.setattr(os, "open", lambda p, *a, **k: (opened.append(str(p)), real(p, *a, **k))[1])
    assert len(read_cloud(path).points) == 20
    assert set(opened) <= {str(path)}


@given(st.binary(max_size=3000), st.integers(1, 40))
def test_lzf_gives_back_what_was_compressed(data, repeats):
    data *= repeats
    assert lzf.decompress(lzf_compress(data), len(data)) == data


@given(st.binary(max_size=300), st.integers(0, 2000))
def test_lzf_of_anything_is_the_declared_size_or_refused(data, size):
    with suppress(ValueError):
        assert len(lzf.decompress(data, size)) == size


def test_a_cloud_too_large_to_hold_is_thinned_as_it_is_read():
    n = 300_000
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-50, 50, (n, 3)).astype("<f4")
    data = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\n" % n
    data += b"property float x\nproperty float y\nproperty float z\nend_header\n" + xyz.tobytes()
    cloud = read_file(io.BytesIO(data), "a.ply", max_points=10_000)
    assert 10_000 / 16 < len(cloud.points) <= 10_000
    want = voxel_grid(torch.from_numpy(xyz), cloud.voxel)
    torch.testing.assert_close(cloud.points[:, :3], want, rtol=1e-6, atol=1e-5)


@pytest.mark.slow
def test_a_hundred_million_points_in_two_gigabytes(tmp_path):
    path, n = tmp_path / "a.ply", 100_000_000
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(b"ply\nformat binary_little_endian 1.0\nelement vertex %d\n" % n)
        file.write(b"property float x\nproperty float y\nproperty float z\nend_header\n")
        for i in range(100):
            file.write((rng.normal(size=(n // 100, 3)) * [20, 20, 2] + [i, 0, 0]).astype("<f4").tobytes())
    cloud = read_cloud(path)
    assert 0 < len(cloud.points) <= 2_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000  # KB
