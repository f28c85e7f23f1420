"""Shards give data and nothing else (rows C6, C8 and C9 of the contracts)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.train import shards


def tar(path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as out:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                out.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            out.addfile(info, io.BytesIO(member[1]))
    return path


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_samples_are_neighbours_with_one_name(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", [("x/1.jpg", b"a"), ("x/1.json", b"{}"), ("x/2.jpg", b"b"), ("3.tar.gz", b"c")])
    assert list(shards.samples(path)) == [
        {"__key__": b"x/1", "jpg": b"a", "json": b"{}"},
        {"__key__": b"x/2", "jpg": b"b"},
    ]


def test_members_that_are_not_data_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad: list[tuple[str, bytes] | tarfile.TarInfo] = [
        ("1.pkl", b"cos\nsystem\n(S'touch owned'\ntR."),
        ("1.pyd", b"x"),
        ("../2.txt", b"x"),
        ("/3.txt", b"x"),
        ("a/../../4.txt", b"x"),
        link("5.txt", "/etc/passwd", tarfile.SYMTYPE),
        link("6.txt", "1.pkl", tarfile.LNKTYPE),
        link("7.txt", "", tarfile.FIFOTYPE),
        link("8.txt", "", tarfile.CHRTYPE),
        ("9.txt", b"good"),
        ("9.txt", b"twice"),
    ]
    path = tar(tmp_path / "a.tar", bad)
    assert list(shards.samples(path)) == [{"__key__": b"9", "txt": b"good"}]
    assert "10 members" in caplog.text


def test_a_tar_cut_short_gives_what_came_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tar(tmp_path / "a.tar", [("1.txt", b"one"), ("2.txt", b"two" * 1000)])
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    assert [s["__key__"] for s in shards.samples(path)] == [b"1"]
    assert "cut short" in caplog.text


@pytest.mark.parametrize("contents", [b"", b"\0", b"not a tar" * 100])
def test_what_is_no_tar_is_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(contents)
    with pytest.raises(MediaError, match="not a tar"):
        list(shards.samples(path))


@pytest.mark.parametrize("name", ["pipe:touch owned", "gs://b/x.tar", "gs:x.tar", "${HOME}/x.tar", "https://h/x.tar"])
def test_a_shard_is_a_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="not a local file"):
        next(shards.samples(name))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"x\.tar"):
        next(shards.samples(tmp_path / "x.tar"))


def test_a_member_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_MEMBER", 10)
    path = tar(tmp_path / "a.tar", [("1.txt", b"x" * 11)])
    with pytest.raises(LimitError, match=r"1\.txt"):
        next(shards.samples(path))
