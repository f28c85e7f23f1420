"""What was perceived is kept as it was given, bounded, found by what it means, and read back strictly."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import UsageError
from mmworld.stream.economy import pooled
from mmworld.stream.evidence import Evidence, Trace
from mmworld.stream.memory import Memory
from mmworld.types import Moment

FIRST = """
create table moments (id integer primary key autoincrement, start real, "end" real,
    text text, source text, vector blob);
create index moments_start on moments (start);
create virtual table words using fts5(text, content='moments', content_rowid='id', tokenize='porter');
create trigger said after insert on moments begin
    insert into words (rowid, text) values (new.id, new.text);
end;
create trigger gone after delete on moments begin
    insert into words (words, rowid, text) values ('delete', old.id, old.text);
end;
insert into moments (start, "end", text, source) values (1.0, 2.0, 'a door opens', '');
"""
"""A file as it was before evidence was kept."""


def trace(n: int = 4, width: int = 8, seed: int = 0, name: str = "video") -> Trace:
    rng = np.random.default_rng(seed)
    return Trace(name, rng.standard_normal((n, width)).astype(np.float16), rng.random(n).astype(np.float32))


def evidence(start: float, end: float, *traces: Trace, meaning: object = None) -> Evidence:
    vector = None if meaning is None else np.array(meaning, np.float32)
    return Evidence(start, end, traces or (trace(seed=int(start)),), meaning=vector)


def same(a: Evidence | None, b: Evidence) -> bool:
    return (
        a is not None
        and (a.start, a.end, a.source) == (b.start, b.end, b.source)
        and all(
            x.modality == y.modality and np.array_equal(x.x, y.x) and np.array_equal(x.time, y.time)
            for x, y in zip(a.traces, b.traces, strict=True)
        )
    )


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 300)), min_size=1, max_size=4), st.integers(0, 99))
def test_what_is_read_is_what_was_kept(shapes: list[tuple[int, int]], seed: int) -> None:
    memory = Memory()
    kept = evidence(1.5, 4.0, *(trace(n, width, seed, f"sense{i}") for i, (n, width) in enumerate(shapes)))
    memory.keep(kept)
    assert same(memory.evidence(Moment(1.5, 4.0, "")), kept)
    assert memory.evidence(Moment(1.5, 3.0, "")) is None
    assert memory.evidence(Moment(1.5, 4.0, "", "another source")) is None


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_pooled_tokens_are_means_of_what_came(n: int, most: int, seed: int) -> None:
    """A small column for each token says of which tokens each mean is."""
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    time = torch.arange(n, dtype=torch.float64)
    marked = torch.cat((x, 1e-9 * torch.eye(n, dtype=torch.float64)), 1)
    made, when = pooled(marked, time, most)
    shares = made[:, 8:] * 1e9
    assert len(made) == min(n, most)
    assert torch.allclose(((shares > 1e-6).sum(0)).double(), torch.ones(n, dtype=torch.float64)), "each in one mean"
    for row, at, share in zip(made, when, shares, strict=True):
        members = share > 1e-6
        assert torch.allclose(row[:8], x[members].mean(0))
        assert torch.allclose(at, time[members].mean())
    assert torch.equal(when, when.sort().values)


def test_twenty_hours_stay_within_rows_and_bytes_and_hour_two_is_found_with_its_evidence(tmp_path: Path) -> None:
    """A segment in twenty seconds; evidence of the last nineteen hours fits."""
    each, door = trace().nbytes, 7200.0
    memory = Memory(tmp_path / "m", most=3300, most_bytes=19 * 180 * each + 1)
    for i in range(20 * 180):
        start = 20.0 * i
        memory.keep(evidence(start, start + 20))
        memory.add(Moment(start, start + 20, "a door opens" if start == door else f"a blue star {i % 7}"))
        if i == 19 * 180:
            size = (tmp_path / "m").stat().st_size
    held = sqlite3.connect(tmp_path / "m").execute("select count(*), sum(length(x) + length(time)) from traces")
    assert held.fetchone() == (19 * 180, 19 * 180 * each)
    assert len(memory) == 3300
    assert (tmp_path / "m").stat().st_size < 1.1 * size
    (found, *_) = memory.find("when did the door open?")
    assert found.start == door
    assert same(memory.evidence(found), evidence(door, door + 20))
    assert memory.evidence(Moment(0.0, 20.0, "a blue star 0")) is None
    assert [bool(m.text) for m in memory.between(5960.0, 6040.0)] == [False, False, True, True], "text goes first"


def test_what_nothing_was_told_of_is_found_by_its_time_and_by_what_it_means() -> None:
    meanings = {"a dog": [1.0, 0.0], "it rains": [0.0, 1.0], "a puppy": [0.9, 0.1]}
    memory = Memory(embed=lambda text: np.array(meanings[text]))
    memory.keep(evidence(0.0, 5.0, meaning=[0.1, 0.9]))
    memory.keep(evidence(5.0, 10.0, meaning=[1.0, 0.1]))
    memory.add(Moment(0.0, 5.0, "it rains"))
    assert memory.between(0.0, 99.0) == [Moment(0.0, 5.0, "it rains"), Moment(5.0, 10.0, "")]
    assert memory.find("a puppy", 1) == [Moment(5.0, 10.0, "")]
    memory.add(Moment(5.0, 10.0, "a dog"))
    assert memory.find("a puppy", 9) == [Moment(5.0, 10.0, "a dog"), Moment(0.0, 5.0, "it rains")]


def test_of_a_long_moment_the_piece_that_fits_is_looked_at() -> None:
    memory = Memory(embed=lambda text: np.array([1.0, 0.0]))
    pieces = [evidence(10.0 * i, 10.0 * i + 10, meaning=[float(i == 2), 1.0]) for i in range(4)]
    for piece in pieces:
        memory.keep(piece)
    memory.add(Moment(0.0, 40.0, "all of it"))
    assert same(memory.evidence(Moment(0.0, 40.0, "all of it"), "?"), pieces[2])
    assert memory.find("?") == [Moment(0.0, 40.0, "all of it")]


def test_kept_again_it_is_there_once_and_told_still(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m", most_bytes=10 * trace().nbytes)
    for _ in range(3):
        for i in range(8):
            memory.keep(evidence(float(i), i + 1.0))
            memory.add(Moment(float(i), i + 1.0, f"number {i}"))
    memory.close()
    again = Memory(tmp_path / "m", most_bytes=10 * trace().nbytes)
    for i in range(4, 10):
        again.keep(evidence(float(i), i + 1.0))
    assert [m.text for m in again.between(0, 99)] == [*(f"number {i}" for i in range(8)), "", ""]
    assert all(same(again.evidence(m), evidence(m.start, m.end)) for m in again.between(0, 99))
    again.keep(evidence(10.0, 11.0))
    assert again.evidence(Moment(0.0, 1.0, "number 0")) is None, "the oldest goes first"


def test_a_file_from_before_is_gone_on_with(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "m").executescript(FIRST)
    memory = Memory(tmp_path / "m")
    memory.keep(evidence(2.0, 3.0))
    memory.add(Moment(2.0, 3.0, "a door shuts"))
    memory.close()
    assert [m.text for m in Memory(tmp_path / "m").find("door")] == ["a door opens", "a door shuts"]
    assert sqlite3.connect(tmp_path / "m").execute("pragma user_version").fetchone() == (1,)


@pytest.mark.parametrize(
    "damage",
    [
        "update traces set x = substr(x, 2)",
        "update traces set time = x''",
        "update traces set time = substr(time, 2)",
        "update traces set width = 7",
        "update traces set width = -8",
        "update traces set width = 'wide'",
        "update traces set x = null",
        "update traces set x = zeroblob(4294)",
        "update traces set x = replace(hex(x), 'Z', '')",
        "update traces set x = cast(x'ff7f' || substr(x, 3) as blob)",
        "update evidence set meaning = x'00'",
    ],
)
def test_damaged_evidence_is_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    memory = Memory(tmp_path / "m")
    memory.keep(evidence(1.0, 2.0))
    db = sqlite3.connect(tmp_path / "m")
    db.execute(damage)
    db.commit()
    with pytest.raises(UsageError, match=r"m: damaged at 1\.0 s") as caught:
        memory.evidence(Moment(1.0, 2.0, ""))
    assert "\n" not in str(caught.value)


def test_another_version_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "new").execute("pragma user_version = 2")
    with pytest.raises(UsageError, match="version 2, known is 1"):
        Memory(tmp_path / "new")
    memory = Memory(tmp_path / "m")
    for i in range(200):
        memory.keep(evidence(float(i), i + 1.0))
    memory.close()
    whole = (tmp_path / "m").read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    with pytest.raises(UsageError, match="no memory of a stream"):
        [memory.evidence(m) for memory in [Memory(tmp_path / "torn")] for m in memory.between(0, 999, 999)]


def test_it_is_found_while_more_is_added(tmp_path: Path) -> None:
    """By the one that adds and by another that has opened the same file."""
    memory, faults = Memory(tmp_path / "m", most=100, most_bytes=100 * trace().nbytes), []
    memory.add(Moment(-1.0, 0.0, "a door opens"))
    done = threading.Event()

    def look(bank: Memory) -> None:
        try:
            while not done.is_set():
                for m in bank.find("door", 3):
                    kept = bank.evidence(m)
                    assert kept is None or same(kept, evidence(m.start, m.end))
        except BaseException as e:
            faults.append(e)

    threads = [threading.Thread(target=look, args=(b,)) for b in (memory, memory, Memory(tmp_path / "m"))]
    for t in threads:
        t.start()
    for i in range(300):
        memory.keep(evidence(float(i), i + 1.0))
        memory.add(Moment(float(i), i + 1.0, f"a door {i}"))
    done.set()
    for t in threads:
        t.join()
    assert not faults
    assert len(memory) == 100


def test_streams_that_write_into_one_file_are_bounded_together(tmp_path: Path) -> None:
    each = trace().nbytes
    banks = [Memory(tmp_path / "m", most_bytes=10 * each) for _ in range(3)]
    for i in range(30):
        banks[i % 3].keep(evidence(float(i), i + 1.0))
    (held,) = sqlite3.connect(tmp_path / "m").execute("select sum(bytes) from evidence").fetchone()
    assert held == 10 * each
    assert [m.start for m in banks[0].between(0, 99)] == [float(i) for i in range(20, 30)]
