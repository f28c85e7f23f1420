"""Draws a timeline: what was seen, heard and measured above, what was said of it below, on one axis of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmworld.cli import spans
from mmworld.cli.formats import clock
from mmworld.cli.spans import FAINT, INK, INNER, LEFT, PAPER, WIDTH, Lane, label
from mmworld.cli.timeline import WINDOW, Array, Timeline
from mmworld.cli.transcript import replacing
from mmworld.types import Caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, TITLE, AXIS = 0.12, 0.7, 0.42
"""Inches: between lanes, of the title, of the axis below."""
TRACES = ("#1f6fb2", "#d9772b", "#3a923a", "#7a4fb5", "#c23b57", "#2a9d9d")


def draw(timeline: Timeline, captions: Sequence[Caption], path: Path, *, title: str = "") -> None:
    """Write the picture of `timeline` and `captions` to `path`, whose suffix says the format: png, svg, pdf.

    Raises:
        ResourceError: the file cannot be written.
    """
    figure = compose(timeline, captions, title)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower())


def compose(timeline: Timeline, captions: Sequence[Caption], title: str = "") -> Figure:
    """The picture as a matplotlib Figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    captions = spans.merge(captions)
    start, end = _extent(timeline, captions)
    still = end == start
    end = start + 1.0 if still else end
    lane, listing = spans.layout(captions, start, end)
    lanes = [*_lanes(timeline, start, end, 2.6 if still else 1.3), lane]
    height = TITLE + sum(h + GAP for h, _ in lanes) + (GAP if still else AXIS) + spans.listing_height(listing)
    figure = Figure(figsize=(WIDTH, height), dpi=110, facecolor=PAPER)
    FigureCanvasAgg(figure)
    figure.text(LEFT / WIDTH, 1 - 0.4 / height, title, size=13, weight="bold", color=INK, va="center", parse_math=False)
    top = height - TITLE
    for i, (h, paint) in enumerate(lanes):
        axes = figure.add_axes((LEFT / WIDTH, (top - h) / height, INNER / WIDTH, h / height), facecolor=PAPER)
        axes.set_xlim(start, end)
        paint(axes)
        _style(axes, start, end, axis=i == len(lanes) - 1 and not still)
        top -= h + GAP
    spans.write_listing(figure, listing, top - AXIS, height)
    return figure


def _extent(timeline: Timeline, captions: Sequence[Caption]) -> tuple[float, float]:
    starts = [*timeline.frames.times[:1], *timeline.clouds.times[:1], *(c.start for c in captions)]
    starts += [bins.start for bins in (timeline.wave, timeline.traces) if bins is not None and bins.start is not None]
    return min(starts, default=0.0), max([timeline.end, *(c.end for c in captions)])


def _lanes(timeline: Timeline, start: float, end: float, tall: float) -> list[Lane]:
    lanes: list[Lane] = []
    if timeline.frames.times:
        lanes.append((tall, lambda axes: _film(axes, timeline, start, end, tall)))
    if timeline.wave.start is not None:
        lanes.append((0.6, lambda axes: _wave(axes, timeline)))
        lanes.append((0.95, lambda axes: _spectrum(axes, timeline)))
    if timeline.clouds.times:
        lanes.append((tall + 0.2, lambda axes: _clouds(axes, timeline, (tall + 0.2) * (end - start) / INNER)))
    if timeline.traces is not None:
        lanes.append((1.2, lambda axes: _traces(axes, timeline)))
    return lanes


def _style(axes: Any, start: float, end: float, *, axis: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(start, end)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom" and axis)
    axes.spines["bottom"].set_color(FAINT)
    axes.set_yticks([])
    axes.tick_params(axis="x", colors=FAINT, labelsize=8, length=3 if axis else 0, labelbottom=axis)
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 5, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda t, _: _tick(t, end - start)))


def _tick(t: float, length: float) -> str:
    return f"{t:g} s" if length < 60 else clock(max(t, 0.0)).partition(".")[0]


def _film(axes: Any, timeline: Timeline, start: float, end: float, inches: float) -> None:
    """Frames side by side, each at its time; a still once."""
    label(axes, "frames" if len(timeline.frames.times) > 1 else "image")
    axes.set_ylim(0, 1)
    times, values = timeline.frames.times, timeline.frames.values
    height, width = values[0].shape[:2]
    shown = inches * min(width / height, 3.0) * (end - start) / INNER
    count = max(1, int((end - start) / shown)) if len(times) > 1 else 1
    for slot in range(count):
        left = start + slot * (end - start) / count
        nearest = int(np.abs(np.asarray(times) - left - shown / 2).argmin())
        axes.imshow(values[nearest], extent=(left, left + shown * 0.985, 0, 1), aspect="auto", interpolation="bilinear")


def _wave(axes: Any, timeline: Timeline) -> None:
    label(axes, "sound")
    times, low, high = timeline.wave.series()
    peak = max(float(np.abs([low, high]).max()), 1e-3)
    axes.fill_between(times, low[:, 0] / peak, high[:, 0] / peak, color=TRACES[0], lw=0.5, alpha=0.85)
    axes.set_ylim(-1.05, 1.05)


def _spectrum(axes: Any, timeline: Timeline) -> None:
    label(axes, f"0–{timeline.rate / 2000:g} kHz\n(mel)")
    times, _, power = timeline.spectrum.series()
    decibels = 10 * np.log10(power.T + 1e-10)
    top = float(decibels.max(initial=-100.0))
    edges = np.append(times - timeline.spectrum.step / 2, timeline.end)
    edges[0] -= WINDOW / timeline.rate / 2
    bands = np.arange(len(decibels) + 1)
    axes.pcolormesh(edges, bands, decibels, cmap="magma", vmin=top - 70, vmax=top, rasterized=True)


def _clouds(axes: Any, timeline: Timeline, size: float) -> None:
    """Each cloud, seen from the side and a little above, at its time, `size` seconds wide; as many as fit."""
    label(axes, "points")
    axes.set_ylim(0, 1)
    free = -np.inf
    for time, points in zip(timeline.clouds.times, timeline.clouds.values, strict=True):
        if time >= free:
            free = time + size
            xy, depth = _project(points[:, :3])
            order = np.argsort(depth)
            colours = _colours(points)[order]
            axes.scatter(time + (0.03 + 0.94 * xy[order, 0]) * size, 0.03 + 0.94 * xy[order, 1], s=5, c=colours, lw=0)


def _project(points: Array) -> tuple[Array, Array]:
    """[P, 3], z up, to the unit square and nearness, from 35 degrees to the side and 25 above."""
    turn, tilt = np.radians(35), np.radians(25)
    centred = points - (points.min(0) + points.max(0)) / 2
    x = centred[:, 0] * np.cos(turn) - centred[:, 1] * np.sin(turn)
    away = centred[:, 0] * np.sin(turn) + centred[:, 1] * np.cos(turn)
    y = centred[:, 2] * np.cos(tilt) + away * np.sin(tilt)
    reach = max(float(np.percentile(np.abs([x, y]), 99.5)), 1e-9)
    return np.clip(np.stack([x, y], 1) / reach / 2 + 0.5, 0, 1), centred[:, 2] * np.sin(tilt) - away * np.cos(tilt)


def _colours(points: Array) -> Array:
    """RGB of each point: its own, else by height."""
    from matplotlib import colormaps

    if points.shape[1] >= 6 and np.ptp(rgb := np.nan_to_num(points[:, 3:6])) > 0 and 0 <= rgb.min() <= rgb.max() <= 1:
        return rgb
    height = np.argsort(np.argsort(points[:, 2])) / max(len(points) - 1, 1)
    return colormaps["viridis"](height)[:, :3]


def _traces(axes: Any, timeline: Timeline) -> None:
    """Each channel in its own band, scaled to it."""
    label(axes, "sensor")
    assert timeline.traces is not None
    times, low, high = timeline.traces.series()
    width = low.shape[1]
    for i in range(width):
        bottom, span = low[:, i].min(), max(float(high[:, i].max() - low[:, i].min()), 1e-9)
        a, b = ((x[:, i] - bottom) / span * 0.85 + width - 1 - i for x in (low, high))
        axes.fill_between(times, a, b, color=TRACES[i], lw=1.2, alpha=0.9)
        axes.text(1.003, (width - 0.6 - i) / width, str(i + 1), transform=axes.transAxes, size=8, color=TRACES[i])
    axes.set_ylim(-0.05, width)
