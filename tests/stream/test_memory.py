"""What was told long ago is found by its time, its words and its meaning, in a bank that stays bounded."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmworld
from mmworld.cli import command
from mmworld.errors import UsageError
from mmworld.models.load import load
from mmworld.stream.memory import Memory
from mmworld.types import Moment

spans = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10)), max_size=20, unique=True)
DULL = ["a blue star above a red circle", "a rising tone", "two clicks, then a low beep", "a man walks a dog"]


@given(spans, st.integers(0, 60), st.integers(0, 20))
def test_by_time_it_is_what_overlaps(held: list[tuple[int, int]], start: int, seconds: int) -> None:
    memory = Memory()
    moments = [Moment(float(a), float(a + n), f"number {i}") for i, (a, n) in enumerate(held)]
    for moment in moments:
        memory.add(moment)
        memory.add(moment)  # said again after a resume
    want = [m for m in moments if m.start < start + seconds and m.end > start]
    assert sorted(memory.between(start, start + seconds), key=str) == sorted(want, key=str)
    assert [m.start for m in memory.between(start, start + seconds)] == sorted(m.start for m in want)


def test_at_hour_twenty_what_happened_at_hour_two_is_found_with_its_time() -> None:
    world, rng = load("nano"), random.Random(0)
    memory = Memory(embed=lambda text: world.meaning(text).numpy())
    told = {7200.0: "a door opens and a girl in a green coat steps in", 30_000.0: "a white square shrinks"}
    for i in range(20 * 720):
        memory.add(Moment(5.0 * i, 5.0 * i + 5, told.get(5.0 * i, rng.choice(DULL))))
    assert memory.find("when did the door open?")[0].start == 7200.0
    assert memory.find("a girl who wears green")[0].start == 7200.0
    assert memory.find("when was there a shrinking square")[0].start == 30_000.0


def test_what_means_the_same_in_other_words_is_found() -> None:
    meanings = {"a puppy sleeps": [1.0, 0.1], "it rains": [0.0, 1.0], "dog": [0.9, 0.0]}
    memory = Memory(embed=lambda text: np.array(meanings[text]))
    for i, text in enumerate(("a puppy sleeps", "it rains")):
        memory.add(Moment(float(i), i + 1.0, text))
    assert [m.text for m in memory.find("dog", 1)] == ["a puppy sleeps"]


def test_it_stays_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    memory, sizes = Memory(tmp_path / "m", embed=lambda text: np.ones(64), most=500), []
    for i in range(3000):
        memory.add(Moment(float(i), i + 1.0, f"{DULL[i % 4]} number{i}"))
        if i % 500 == 499:
            sizes.append((tmp_path / "m").stat().st_size)
    assert len(memory) == 500
    assert memory.between(0, 1e9, 1)[0].start == 2500.0
    assert memory.find("number7") == [] or all(m.start >= 2500 for m in memory.find("number7"))
    assert sizes[-1] < 2 * sizes[1]


def test_it_is_there_again_and_threads_share_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m")
    threads = [
        threading.Thread(target=lambda k=k: [memory.add(Moment(i + k / 4, i + 1.0, "x")) for i in range(50)])
        for k in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    memory.close()
    assert len(Memory(tmp_path / "m")) == 200


@given(st.text(max_size=40))
def test_any_question_may_be_asked(question: str) -> None:
    memory = Memory()
    memory.add(Moment(0.0, 1.0, "a door opens"))
    assert len(memory.find(question)) <= 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"this is no database" * 100)
    with pytest.raises(UsageError, match="no memory of a stream"):
        Memory(tmp_path / "m")


def test_watched_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, memory = str(Path(mmworld.__file__).parent / "samples" / "scene.mp4"), str(tmp_path / "m")
    assert command(["watch", scene, "--every", "2", "--memory", memory]) == 0
    said = capsys.readouterr().out.splitlines()
    assert command(["find", "when did the triangle move?", "--memory", memory, "--most", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [s for s in said if "triangle moves" in s][:1]
    assert command(["find", "--memory", memory, "--start", "2", "--end", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == said[1:2]
    assert command(["find", "x", "--memory", str(tmp_path / "none")]) == 2
