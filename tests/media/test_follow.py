"""Files that grow and folders that fill: in order, whole, once, and until they are removed."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from clips import clip, number

from mmworld.errors import SourceError
from mmworld.media import follow
from mmworld.media.follow import Growing, appearing
from mmworld.media.gate import open_media
from mmworld.media.order import natural
from mmworld.media.video import frames


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL", 0.01)
    monkeypatch.setattr(follow, "SETTLED", 0.1)


def test_names_are_ordered_by_their_numbers() -> None:
    names = ["b", "a10", "a2", "a02", "a", "1", "10", "2"]
    assert sorted(names, key=natural) == ["1", "2", "10", "a", "a02", "a2", "a10", "b"]


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    data, path = clip(60, container="mpegts"), tmp_path / "a.ts"
    path.write_bytes(data[:9000])

    def write() -> None:
        with path.open("ab") as file:
            for i in range(9000, len(data), 5000):
                file.write(data[i : i + 5000])
                file.flush()
                time.sleep(0.01)
        path.unlink()

    thread = threading.Thread(target=write)
    thread.start()
    media = open_media(Growing(path))
    assert not media.seekable
    assert [number(f.data) for f in frames(media)] == list(range(60))
    thread.join()


def test_only_regular_files_grow(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        Growing(tmp_path)
    with pytest.raises(SourceError):
        Growing(tmp_path / "none")


def test_a_folder_fills(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("f10", "f2", "f1", ".hidden", "f3.part"):
        (folder / name).write_text(name)
    (folder / "f0").write_text("")  # never has anything in it
    found = appearing(folder)
    assert [next(found).name for _ in range(3)] == ["f1", "f2", "f10"]
    (folder / "f5").write_text("too late")
    (folder / "f12").write_text("after the next")
    os.rename(folder / "f3.part", folder / "f11")
    assert [next(found).name for _ in range(2)] == ["f11", "f12"]
    shutil.rmtree(folder)
    assert list(found) == []


def test_what_is_still_written_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "2").write_text("whole")

    def write() -> None:
        with (folder / "1").open("w") as file:
            for _ in range(30):
                file.write("x" * 100)
                file.flush()
                time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    while not (folder / "1").exists():
        time.sleep(0.001)
    found = appearing(folder)
    assert next(found).stat().st_size == 3000
    assert next(found).name == "2"
    thread.join()
