"""A recording, read back by the reader of rerun: what was watched is in it, at its time, bounded."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mmworld
from mmworld.cli import command
from mmworld.errors import MediaError, UsageError
from mmworld.models import recording as module
from mmworld.models.events import Answer, Failure
from mmworld.models.provisional import Provisional
from mmworld.models.recording import Recording, beside, identity
from mmworld.models.scribe import CHANNELS, POINTS, SIDE
from mmworld.types import Caption, Chunk, Gap

pytest.importorskip("rerun", reason="the extra 'rerun' is not installed")
SAMPLES = Path(mmworld.__file__).parent / "samples"
SCENE, MOTION = str(SAMPLES / "scene.mp4"), str(SAMPLES / "motion.csv")
Rows = list[tuple[float, dict[str, Any]]]


def read(path: Path) -> dict[str, Rows]:
    """Of each entity its rows: seconds, and what stands there by the name of its component."""
    from rerun.chunk import RrdReader

    found: dict[str, Rows] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chunks = list(RrdReader(path).stream())
    for chunk in chunks:
        table = chunk.to_record_batch()
        if "time" not in table.schema.names:
            continue
        seconds = table.column("time").cast("int64").to_pylist()
        values = {n.partition(":")[2]: table.column(n).to_pylist() for n in table.schema.names if ":" in n}
        rows = found.setdefault(chunk.entity_path.strip("/"), [])
        rows += [(s / 1e9, {n: v[i] for n, v in values.items()}) for i, s in enumerate(seconds)]
    return {name: sorted(rows, key=lambda row: row[0]) for name, rows in found.items()}


def texts(rows: Rows) -> list[tuple[float, str]]:
    return [(seconds, row["text"][0]) for seconds, row in rows]


def pixels(row: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(bytes(row["blob"][0]))))


def filled(path: Path, items: list[Any], **options: Any) -> dict[str, Rows]:
    with closing(Recording(path, **options)) as recording:
        for item in items:
            recording.tap(item) if isinstance(item, Chunk) else recording.add(item)
    return read(path)


@pytest.fixture(scope="module")
def watched() -> tuple[list[Chunk], list[Any]]:
    """What is perceived of two files, and what is told."""
    chunks: list[Chunk] = []
    with mmworld.watch(SCENE, sensor=MOTION, policy=mmworld.Every(2.0), tap=chunks.append) as live:
        return chunks, list(live)


def rows_of(chunks: list[Chunk], modality: str) -> Iterator[tuple[float, torch.Tensor]]:
    """Every row that was perceived, at its time."""
    for chunk in chunks:
        if chunk.modality == modality:
            for i, row in enumerate(chunk.data):
                yield chunk.start + i * (chunk.end - chunk.start) / len(chunk.data), row


def test_what_was_watched_is_in_the_file(tmp_path: Path, watched: tuple[list[Chunk], list[Any]]) -> None:
    chunks, events = watched
    path = tmp_path / "new" / "a.rrd"
    flags = ["--with", f"sensor={MOTION}", "--every", "2", "--rerun", str(path)]
    assert command(["watch", SCENE, *flags]) == 0
    found = read(path)

    frames = list(rows_of(chunks, "video"))
    assert len(frames) == 26, "four a second, which are as many as are drawn"
    assert [t for t, _ in found["video"]] == pytest.approx([t for t, _ in frames])
    for (_, row), (_, frame) in zip(found["video"], frames, strict=True):
        assert np.abs(pixels(row).astype(float) - frame.permute(1, 2, 0).numpy()).mean() < 4

    cells: dict[int, list[float]] = {}
    for seconds, sample in rows_of(chunks, "audio"):
        cells.setdefault(int(seconds * 50 + 1e-6), []).append(float(sample[0]))
    assert [t for t, _ in found["audio"]] == pytest.approx([c / 50 for c in cells])
    drawn = [row["scalars"] for _, row in found["audio"]]
    assert np.asarray(drawn) == pytest.approx(np.array([[min(x), max(x)] for x in cells.values()]))

    readings = list(rows_of(chunks, "sensor"))
    assert [t for t, _ in found["sensor"]] == pytest.approx([t for t, _ in readings])
    assert np.asarray([row["scalars"] for _, row in found["sensor"]]) == pytest.approx(
        torch.stack([x for _, x in readings]).numpy()
    )

    told = [e for e in events if isinstance(e, Caption)]
    assert len(told) == 4
    assert texts(found["captions"]) == [(pytest.approx(c.end), c.text) for c in told]
    assert texts(found["caption"]) == [(pytest.approx(c.start), c.text) for c in told]


def test_what_is_told_stands_at_its_time_and_in_its_rank(tmp_path: Path) -> None:
    fault = Failure("cam", MediaError("truncated", "cam: it broke"))
    told = Caption("a dog barks", 1.0, 3.0)
    gap, answer = Gap(1.0, 2.5, "video", "outage", "cam"), Answer("who?", "a dog", 2.0, 0.0)
    found = filled(tmp_path / "a.rrd", [gap, Provisional(told), answer, told, fault])
    assert texts(found.pop("caption")) == [(1.0, "a dog barks")]
    said = {name: [(t, row["level"][0], row["text"][0]) for t, row in rows] for name, rows in found.items()}
    assert said == {
        "gaps": [(1.0, "WARN", "no video until 2.500 s: outage")],
        "provisional": [(3.0, "DEBUG", "a dog barks")],
        "answers": [(2.0, "INFO", "who? a dog")],
        "captions": [(3.0, "INFO", "a dog barks")],
        "faults": [(3.0, "ERROR", "cam: cam: it broke")],
    }


def test_points_keep_their_places_and_colours(tmp_path: Path) -> None:
    plain, coloured = torch.randn(50, 4), torch.cat([torch.randn(50, 3), torch.rand(50, 3)], 1)
    found = filled(tmp_path / "a.rrd", [Chunk(plain, 0.0, 0.1, "points"), Chunk(coloured, 1.0, 1.1, "points")])
    (zero, first), (one, second) = found["points"]
    assert (zero, one) == (0.0, 1.0)
    assert np.asarray(first["positions"]) == pytest.approx(plain[:, :3].numpy())
    assert not first.get("colors")
    assert np.asarray(second["positions"]) == pytest.approx(coloured[:, :3].numpy())
    rgb = np.asarray(second["colors"], np.uint32).view(np.uint8).reshape(-1, 4)[:, :0:-1]  # 0xRRGGBBAA
    assert np.abs(rgb / 255 - coloured[:, 3:].numpy()).max() <= 0.5 / 255 + 1e-6


def test_how_much_of_a_second_is_written_is_bounded(tmp_path: Path) -> None:
    """Sixty large frames, a hundred large clouds and a thousand readings of forty channels in one second."""
    chunks = [Chunk(torch.randint(0, 255, (60, 3, 360, 1300), dtype=torch.uint8), 0.0, 1.0, "video")]
    chunks += [Chunk(torch.randn(12_000, 3), i / 100, (i + 1) / 100, "points") for i in range(100)]
    chunks += [Chunk(torch.randn(1000, 40), 0.0, 1.0, "sensor"), Chunk(torch.randn(48_000, 2), 0.0, 1.0, "audio")]
    found = filled(tmp_path / "a.rrd", chunks)
    assert [t for t, _ in found["video"]] == [0.0, 0.25, 0.5, 0.75]
    assert {pixels(row).shape for _, row in found["video"]} == {(round(SIDE * 360 / 1300), SIDE, 3)}
    assert [t for t, _ in found["points"]] == [0.0, 0.25, 0.5, 0.75]
    assert {len(row["positions"]) for _, row in found["points"]} == {4000}, f"every third, as more are over {POINTS}"
    assert [len(found[n]) for n in ("sensor", "audio")] == [50, 50]
    assert {len(row["scalars"]) for _, row in found["sensor"]} == {CHANNELS}


@pytest.mark.parametrize("drop", [True, False])
def test_a_disk_that_hangs_holds_up_what_can_wait_alone(
    drop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is live goes on, what is left out is counted, and what is told is all there."""
    hangs, draw = threading.Event(), module.Scribe.chunk
    monkeypatch.setattr(module, "ROOM", 1 << 20)
    monkeypatch.setattr(module.Scribe, "chunk", lambda self, chunk: hangs.wait() and draw(self, chunk))
    chunks = [Chunk(torch.zeros(1, 3, 300, 300, dtype=torch.uint8), i / 4, (i + 1) / 4, "video") for i in range(20)]
    told = [Caption(f"frame {i}", c.start, c.end) for i, c in enumerate(chunks)]

    def bring() -> None:
        for chunk, caption in zip(chunks, told, strict=True):
            recording.tap(chunk)
            recording.add(caption)

    with closing(Recording(tmp_path / "a.rrd", drop=drop)) as recording:
        thread = threading.Thread(target=bring, daemon=True)
        thread.start()
        thread.join(60 if drop else 0.5)
        assert thread.is_alive() is not drop
        hangs.set()
        thread.join(60)
    found = read(tmp_path / "a.rrd")
    held = (1 << 20) // chunks[0].data.nbytes + 1
    assert recording.left_out == (20 - held if drop else 0)
    assert len(found["video"]) == 20 - recording.left_out
    assert len(found["captions"]) == 20
    assert bool(recording.warnings) is drop


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.rrd"
    path.write_text("mine")
    assert command(["watch", SCENE, "--rerun", str(path)]) == 2
    assert "a.rrd exists" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert command(["watch", SCENE, "--rerun", str(path / "b.rrd")]) == 6
    assert capsys.readouterr().err.count("\n") == 1


def test_gone_on_with_it_is_the_same_recording_in_another_file(tmp_path: Path) -> None:
    path, second = tmp_path / "a.rrd", tmp_path / "a-2.rrd"
    flags = ["--every", "1", "--state", str(tmp_path / "state"), "--rerun", str(path)]
    assert command(["watch", SCENE, *flags]) == 0
    before = path.read_bytes()
    assert command(["watch", SCENE, *flags]) == 0
    assert path.read_bytes() == before
    assert identity(second) == identity(path)
    assert beside(path) == (tmp_path / "a-3.rrd", identity(path))
    assert beside(tmp_path / "new.rrd") == (tmp_path / "new.rrd", None)
    path.write_text("mine")
    with pytest.raises(UsageError, match="no recording that can be gone on with"):
        beside(path)


RUN = "from mmworld.cli import main; main()"
FULL = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); {RUN}"


def test_a_full_disk_ends_it_in_one_line_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.rrd"
    argv = [sys.executable, "-c", FULL, "watch", SCENE, "--every", "1", "--real-time", "--rerun", str(path)]
    ended = subprocess.run(argv, capture_output=True, timeout=100, check=False)
    assert ended.returncode == 6, ended.stderr
    assert ended.stderr.decode() == f"mmworld: cannot write {path}: File too large\n"
    assert read(path)["video"], "the writes before are whole"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_what_it_wrote(
    how: signal.Signals, tmp_path: Path, watched: tuple[list[Chunk], list[Any]]
) -> None:
    path = tmp_path / "a.rrd"
    argv = [sys.executable, "-c", RUN, "watch", SCENE, "--every", "1", "--real-time", "--rerun", str(path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(how)
    process.wait(10)
    found = read(path)
    frames = [t for t, _ in rows_of(watched[0], "video")]
    there = [t for t, _ in found["video"]]
    assert there == pytest.approx(frames[: len(there)])
    assert there[-1] >= 1.0, "what came more than two seconds ago"
    assert texts(found["captions"])[0][0] == pytest.approx(1.0)


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UsageError) as e:
        Recording(tmp_path / "a.rrd")
    assert e.value.hint == "pip install 'mmworld[rerun]'"
    assert not (tmp_path / "a.rrd").exists()
