"""The timeline keeps little and draws everything where it belongs, nothing over anything else."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworld.cli.plot import compose, draw
from mmworld.cli.spans import merge, width, wrap
from mmworld.cli.timeline import WINDOW, Bins, Timeline
from mmworld.stream.spread import Spread
from mmworld.types import Caption, Chunk

RATE = 8000


@given(st.lists(st.floats(0, 50), min_size=1, max_size=200), st.sampled_from([2, 8, 16]))
def test_bins_hold_the_extremes(steps: list[float], n: int) -> None:
    times = np.cumsum(steps)
    values = np.sin(times * 7)[:, None]
    bins = Bins(1, n=n, step=0.5)
    for i in range(0, len(times), 7):
        bins.add(times[i : i + 7], values[i : i + 7], values[i : i + 7])
    middles, low, high = bins.series()
    assert bins.low.shape == (n, 1)
    assert low.min() == values.min()
    assert high.max() == values.max()
    assert all(abs(middles - t).min() <= bins.step / 2 + 1e-6 for t in times)


@given(st.integers(1, 2000), st.integers(2, 20))
def test_spread_keeps_few_from_first_to_last(n: int, limit: int) -> None:
    spread = Spread(limit)
    for i in range(n):
        spread.add(float(i), lambda i=i: np.asarray(i))  # type: ignore[misc]
    assert len(spread.times) <= limit
    assert spread.times[0] == 0.0
    assert spread.times == [float(v) for v in spread.values]
    gaps = np.diff([*spread.times, n])
    assert gaps.max() <= 4 * n / limit + 2


def test_memory_is_flat_however_long() -> None:
    timeline = Timeline()
    sizes = []
    for minute in range(40):
        at = 60.0 * minute
        timeline.add(Chunk(torch.rand(60 * RATE, 1) - 0.5, at, at + 60, "audio"))
        timeline.add(Chunk(torch.zeros(60, 3, 96, 96, dtype=torch.uint8), at, at + 60, "video"))
        timeline.add(Chunk(torch.rand(5000, 6), at, at + 60, "points"))
        timeline.add(Chunk(torch.rand(600, 3), at, at + 60, "sensor"))
        kept = [*timeline.frames.values, *timeline.clouds.values, timeline.wave.low, timeline.spectrum.low]
        sizes.append(sum(x.nbytes for x in kept))
    assert max(sizes) < 10_000_000
    assert timeline.end == 2400


@settings(max_examples=10)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_the_wave_does_not_depend_on_chunks(sizes: list[int]) -> None:
    samples = torch.rand(sum(sizes) + WINDOW, 1, generator=torch.Generator().manual_seed(0)) - 0.5
    whole, cut = Timeline(), Timeline()
    whole.add(Chunk(samples, 0.0, len(samples) / RATE, "audio"))
    at = 0
    for size in (*sizes, WINDOW):
        cut.add(Chunk(samples[at : at + size], at / RATE, (at + size) / RATE, "audio"))
        at += size
    np.testing.assert_allclose(whole.wave.series()[1], cut.wave.series()[1])
    np.testing.assert_allclose(whole.spectrum.series()[2], cut.spectrum.series()[2], rtol=1e-6)


def test_a_tone_stands_where_it_sounds() -> None:
    t = torch.arange(2 * RATE) / RATE
    tone = torch.where(t < 1, torch.sin(2 * torch.pi * 500 * t), torch.sin(2 * torch.pi * 2000 * t))
    timeline = Timeline()
    timeline.add(Chunk(tone[:, None], 0.0, 2.0, "audio"))
    times, _, power = timeline.spectrum.series()
    early, late = power[times < 0.9].mean(0).argmax(), power[times > 1.1].mean(0).argmax()
    mel = 2595 * np.log10(1 + np.array([500, 2000]) / 700)
    expected = mel / (2595 * np.log10(1 + RATE / 2 / 700)) * (timeline.spectrum.high.shape[1] + 1) - 1
    assert abs(early - expected[0]) <= 1.5
    assert abs(late - expected[1]) <= 1.5


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=30), st.floats(0.2, 5))
def test_wrapped_lines_fit_and_lose_nothing(text: str, inches: float) -> None:
    lines = wrap(f"a {text} b", inches)
    assert "".join("".join(lines).split()) == f"a{text}b"
    assert all(width(line) <= inches or len(line) == 1 for line in lines)


def test_neighbours_that_say_the_same_are_one() -> None:
    said = [Caption("a", 0, 1), Caption("a", 1, 2), Caption("b", 2, 3), Caption("a", 3, 4), Caption("a", 5, 6)]
    assert [(c.text, c.start, c.end) for c in merge(said)] == [("a", 0, 2), ("b", 2, 3), ("a", 3, 4), ("a", 5, 6)]


def filled(seconds: float) -> Timeline:
    timeline = Timeline()
    n = round(seconds)
    timeline.add(Chunk(torch.randint(0, 255, (n, 3, 60, 80), dtype=torch.uint8), 0.0, seconds, "video"))
    timeline.add(Chunk(torch.rand(n * RATE, 1) - 0.5, 0.0, seconds, "audio"))
    timeline.add(Chunk(torch.rand(300, 3), 0.0, 0.1, "points"))
    timeline.add(Chunk(torch.rand(n * 10, 2), 0.0, seconds, "sensor"))
    return timeline


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_no_text_lies_over_another_or_outside(count: int) -> None:
    words = [
        "a",
        "red",
        "ball",
        "rolls",
        "over",
        "the",
        "green",
        "grass,",
        "then",
        "two",
        "dogs",
        "bark",
        "at",
        "a",
        "man",
    ]
    said = [
        Caption(" ".join(words[: 1 + i * 7 % len(words)]) + f" {i}", i * 20 / count, (i + 1) * 20 / count)
        for i in range(count)
    ]
    figure = compose(filled(20), said, "a $title$ with_odd %s signs")
    figure.canvas.draw()
    texts = [t for t in figure.findobj(lambda artist: hasattr(artist, "get_text")) if t.get_text() and t.get_visible()]
    boxes = [t.get_window_extent() for t in texts]
    boxes = [box for box in boxes if box.width and box.height]
    page = figure.bbox
    assert all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= page.x1 + 1 and b.y1 <= page.y1 + 1 for b in boxes)
    for a, b in itertools.combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, (a, b)
    shown = {t.get_text().replace("\n", " ") for t in texts}
    assert {c.text for c in said} <= shown


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_pictures_are_written_whole(suffix: str, tmp_path: Path) -> None:
    still = Timeline()
    still.add(Chunk(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0.0, 0.0, "image"))
    path = tmp_path / f"x{suffix}"
    draw(still, [Caption("nothing", 0, 0)], path)
    assert path.read_bytes()[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
