"""Strict readers of point clouds and meshes: PLY, PCD, XYZ, OFF, OBJ, NPY, NPZ and KITTI's .bin.

Every count is held against the bytes that are there before anything is allocated; nothing is unpickled and no other
file is opened.
"""

from __future__ import annotations

import importlib
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, BinaryIO

from mmworld.errors import MediaError
from mmworld.media.npy import seekable
from mmworld.modalities.pointcloud.readers.scan import COLUMNS, MAX_POINTS, Cloud, Scan, collect
from mmworld.types import Source

if TYPE_CHECKING:
    from mmworld.media.gate import Media

__all__ = ["COLUMNS", "SUFFIXES", "Cloud", "looks_like", "read_cloud", "read_file", "scan_file"]

SUFFIXES = {
    ".ply": "ply",
    ".pcd": "pcd",
    ".off": "off",
    ".obj": "obj",
    ".npy": "npy",
    ".npz": "npz",
    ".bin": "kitti",
    ".xyz": "xyz",
    ".xyzn": "xyz",
    ".xyzrgb": "xyz",
    ".xyzi": "xyz",
    ".pts": "xyz",
    ".txt": "xyz",
}
_OTHERS = {b"glTF": "glTF", b"LASF": "LAS", b"Kaydara": "FBX", b"ASTM-E57": "E57"}
_OTHER_SUFFIXES = (".gltf", ".glb", ".las", ".laz", ".fbx", ".e57", ".stl", ".pcap")
_CONVERT = "convert it to PLY, for example with CloudCompare"


def looks_like(head: bytes, suffix: str) -> str | None:
    """The format of a cloud from its first bytes and its file name's ending (".ply"), or None.

    Returns:
        "ply", "pcd", "off", "obj", "npy", "npz", "kitti" or "xyz". The last two, and OBJ, have no mark of their own
        and go by the ending.
    """
    suffix = suffix.lower()
    if head[:3] == b"ply" and head[3:4] in (b"\n", b"\r"):
        return "ply"
    if head[:6] in (b"# .PCD", b"VERSIO") and suffix != ".obj":
        return "pcd"
    if head[:6] == b"\x93NUMPY":
        return "npy"
    if head[:4] == b"PK\3\4":
        return "npz" if suffix == ".npz" else None
    if head[:3] == b"OFF" or head[:4] in (b"COFF", b"NOFF"):
        return "off"
    found = SUFFIXES.get(suffix)
    binary = b"\0" in head[:4096]
    return found if (found == "kitti") or (found in ("xyz", "obj", "off", "pcd") and not binary) else None


def scan_file(file: BinaryIO, name: str) -> Scan:
    """Begin to read a seekable binary file; `name` is for messages and for the ending.

    Raises:
        MediaError: "empty", or "format" for what is no cloud that we read.
    """
    head = file.read(1 << 16)
    file.seek(0)
    suffix = PurePath(name).suffix.lower()
    if not head:
        raise MediaError("empty", f"{name}: the file is empty")
    found = looks_like(head, suffix)
    if found is None:
        other = next((o for magic, o in _OTHERS.items() if head.startswith(magic)), None)
        other = other or (suffix[1:] if suffix in _OTHER_SUFFIXES else None)
        known = f"known: {', '.join(sorted(set(SUFFIXES.values())))}"
        what = f"{other} is not read" if other else "not a point cloud or mesh"
        raise MediaError("format", f"{name}: {what}", hint=_CONVERT if other else known)
    parser = importlib.import_module(f"mmworld.modalities.pointcloud.readers.{found.replace('npz', 'npy')}")
    parse = parser.parse_npz if found == "npz" else parser.parse
    scan: Scan = parse(file, name)
    return scan


def read_file(file: IO[bytes], name: str, *, max_points: int = MAX_POINTS) -> Cloud:
    """Read a whole binary file; `name` is for messages and for the ending. See `read_cloud`."""
    return collect(scan_file(seekable(file, name), name), name, max_points)


def read_cloud(source: Source | Media, *, max_points: int | None = None) -> Cloud:
    """Read a point cloud or mesh.

    Args:
        source: what the media gate opens, or what it has opened.
        max_points: a larger cloud is thinned, as it is read, by a voxel grid whose edge doubles until it fits;
            None is the budget's number.

    Raises:
        MediaError: "empty", "format", "truncated", "index" (a face names a point that is not there) or "limit".
    """
    from mmworld.media.gate import open_media

    media = open_media(source)
    with media.open() as file:
        cloud = read_file(file, media.name, max_points=max_points or media.budget.points)
    if cloud.dropped:
        media.counts["points without a finite place"] += cloud.dropped
    if cloud.voxel:
        media.counts[f"thinned by a voxel grid of {cloud.voxel:g} m"] += 1
    return cloud
