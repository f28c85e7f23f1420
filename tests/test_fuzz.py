"""The fuzz script finds what is planted, and nothing in a short run over the cheap formats."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import fuzz
import numpy as np
import pytest


def hang(data: bytes, name: str) -> None:
    while True:
        time.sleep(0.01)


def grow(data: bytes, name: str) -> None:
    np.empty(2 * fuzz.MEMORY, np.uint8)


def die(data: bytes, name: str) -> None:
    os._exit(7)


def wrong(data: bytes, name: str) -> None:
    raise IndexError("planted")


@pytest.mark.parametrize(("plant", "says"), [(hang, "TooSlow"), (grow, "Memory"), (die, "code 7"), (wrong, "planted")])
def test_what_is_planted_is_found(tmp_path: Path, monkeypatch, plant, says):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    known = {"planted": fuzz.Format(plant, "a.txt", (b"some 123 data",))}
    counts: Counter[tuple[str, str]] = Counter()
    fuzz.drive(range(5, 7), known, tmp_path, counts)
    assert counts == {("planted", "finding"): 2}
    assert says in (tmp_path / "planted-5.log").read_text()
    assert (tmp_path / "planted-6.txt").read_bytes() == fuzz.case(6, known)[2]


def test_a_short_run_finds_nothing(tmp_path: Path):
    known = fuzz._cloud_formats() | fuzz._series_formats()
    counts: Counter[tuple[str, str]] = Counter()
    fuzz.drive(range(400), known, tmp_path, counts)
    assert sum(counts.values()) == 400
    assert {outcome for _, outcome in counts} == {"ok", "refused"}, list(tmp_path.iterdir())
