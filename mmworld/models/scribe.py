"""Draws chunks and events on the timeline of a rerun recording, each bounded in how often and how large."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.models.events import Answer, Event, Failure
from mmworld.models.provisional import Provisional
from mmworld.stream.envelope import Array, Envelope, Thinning, times
from mmworld.types import Caption, Chunk, Gap

FRAMES, SIDE, QUALITY = 4.0, 640, 80
"""Frames a second at most, and clouds; the longer side of a frame in pixels at most, and the quality of its JPEG."""
POINTS = 5000
"""Of a cloud, at most."""
WAVE, READINGS, CHANNELS = 50.0, 50.0, 16
"""Pairs of lowest and highest sample a second; readings of a sensor a second, and their channels, at most."""
TIME = "time"
"""The timeline: seconds on the clock of the sources."""


class Scribe:
    """Entities of a recording: `video`, `image`, `points`, `sensor` (its channels), `audio` (extremes of each cell),
    and as text `captions`, `provisional`, `answers`, `gaps`, `faults`; `caption` is the one that holds at a time.

    Args:
        rr: the package rerun.
        stream: a `rerun.RecordingStream`.
    """

    def __init__(self, rr: Any, stream: Any) -> None:
        self._rr, self._stream = rr, stream
        self._senses: list[str] = []
        self._thinning: dict[str, Thinning] = {}
        self._wave = Envelope(WAVE)
        self._end = 0.0

    def chunk(self, chunk: Chunk) -> None:
        """Draw what was perceived."""
        self._end = max(self._end, chunk.end)
        if not len(chunk.data):
            return
        if chunk.modality not in self._senses:
            self._senses.append(chunk.modality)
            self._begin(chunk.modality)
        data = chunk.data.detach().cpu().numpy()
        draw = {"audio": self._sound, "points": self._cloud, "video": self._frames, "image": self._frames}
        draw.get(chunk.modality, self._readings)(chunk, data)

    def event(self, event: Event) -> None:
        """Write down what was told: a caption where it ends, a gap where it begins."""
        self._end = max(self._end, getattr(event, "end", 0.0))
        if isinstance(event, Caption):
            self._log("captions", event.end, event.text)
            self._at(event.start)
            self._stream.log("caption", self._rr.TextDocument(event.text))
        elif isinstance(event, Provisional):
            self._log("provisional", event.caption.end, event.caption.text, "DEBUG")
        elif isinstance(event, Gap):
            self._log("gaps", event.start, f"no {event.modality} until {event.end:.3f} s: {event.reason}", "WARN")
        elif isinstance(event, Answer):
            self._log("answers", event.time, f"{event.question} {event.text}")
        elif isinstance(event, Failure):
            self._log("faults", self._end, f"{event.source}: {event.error}", "ERROR")

    def end(self) -> None:
        """Draw what was held back."""
        self._stroke(*self._wave.rest())

    def _at(self, seconds: float) -> None:
        self._stream.set_time(TIME, duration=seconds)

    def _log(self, entity: str, seconds: float, text: str, level: str = "INFO") -> None:
        self._at(seconds)
        self._stream.log(entity, self._rr.TextLog(text, level=level))

    def _kept(self, chunk: Chunk, rate: float) -> tuple[Array, NDArray[np.intp]]:
        """Of the rows of a chunk those that are drawn: their times and indices."""
        at = times(chunk)
        kept = self._thinning.setdefault(chunk.modality, Thinning(rate)).kept(at)
        return at[kept], kept

    def _frames(self, chunk: Chunk, data: NDArray[Any]) -> None:
        for seconds, i in zip(*self._kept(chunk, FRAMES), strict=True):
            self._at(float(seconds))
            jpeg = self._rr.EncodedImage(contents=_jpeg(data[i].transpose(1, 2, 0)), media_type="image/jpeg")
            self._stream.log(chunk.modality, jpeg)

    def _sound(self, chunk: Chunk, data: NDArray[Any]) -> None:
        self._stroke(*self._wave.add(times(chunk), data.mean(1)))

    def _stroke(self, at: Array, low: Array, high: Array) -> None:
        if len(at):
            self._scalars("audio", at, np.stack([low, high], 1))

    def _readings(self, chunk: Chunk, data: NDArray[Any]) -> None:
        at, kept = self._kept(chunk, READINGS)
        if len(at):
            self._scalars(chunk.modality, at, data[kept, :CHANNELS])

    def _scalars(self, entity: str, at: Array, values: NDArray[Any]) -> None:
        columns = self._rr.Scalars.columns(scalars=values)
        self._stream.send_columns(entity, [self._rr.TimeColumn(TIME, duration=at)], columns)

    def _cloud(self, chunk: Chunk, data: NDArray[Any]) -> None:
        """The points of a chunk are one cloud, whose time is that at which it begins."""
        thinning = self._thinning.setdefault("points", Thinning(FRAMES))
        if len(thinning.kept(np.array([chunk.start]))):
            points = data[:: -(-len(data) // POINTS)]
            self._at(chunk.start)
            self._stream.log("points", self._rr.Points3D(points[:, :3], colors=_colours(points)))

    def _begin(self, sense: str) -> None:
        """Name the lines of a sense, and lay out the views of all that there are."""
        if sense == "audio":
            lines = self._rr.SeriesLines(names=["lowest", "highest"], colors=[[90, 160, 220], [90, 160, 220]])
            self._stream.log("audio", lines, static=True)
        self._stream.send_blueprint(_layout(self._rr, self._senses))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A picture [H, W, 3] as JPEG, scaled down to SIDE."""
    from PIL import Image

    image, file = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((SIDE, SIDE))
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _colours(points: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Of points [P, 3 + F] whose next three columns are colours from 0 to 1 [P, 3]; None of others."""
    colours = points[:, 3:6]
    if colours.shape[1] < 3 or not (np.isfinite(colours).all() and 0 <= colours.min() < colours.max() <= 1):
        return None
    return (255 * colours).round().astype(np.uint8)


def _layout(rr: Any, senses: list[str]) -> Any:
    """What is seen on the left, what was told of it on the right, the lines below."""
    rrb = rr.blueprint
    seen = [rrb.Spatial2DView(origin=s, name=s) for s in senses if s in ("video", "image")]
    seen += [rrb.Spatial3DView(origin=s, name=s) for s in senses if s == "points"]
    lines = [rrb.TimeSeriesView(origin=s, name=s) for s in senses if s not in ("video", "image", "points")]
    told = rrb.Vertical(
        rrb.TextDocumentView(origin="caption", name="caption"), rrb.TextLogView(name="told"), row_shares=[1, 2]
    )
    top = rrb.Horizontal(*seen, told) if seen else told
    return rrb.Blueprint(rrb.Vertical(top, *lines, row_shares=[3, *(1 for _ in lines)]), collapse_panels=True)
