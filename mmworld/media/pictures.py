"""From decoded video frames to the RGB pictures that were asked for: chosen by time, upright, one geometry."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter

from mmworld.errors import LimitError, UsageError
from mmworld.media.clock import MAX_DURATION

if TYPE_CHECKING:
    from collections import Counter

    from torch import Tensor

EPSILON = 1e-6
"""Seconds by which a grid time may miss a timestamp and still be it."""
MAX_ASPECT = 16
"""Pictures longer than this are squashed to it before the crop, so that a 1 x 4096 strip does not become a wall."""
MAX_SIZE = 4096
ITU709 = 1


class Frame(NamedTuple):
    """A picture shown at `time` seconds on the media clock: uint8 [3, H, W], upright RGB."""

    time: float
    data: Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """The times start + i / fps."""

    start: float
    fps: float

    @property
    def step(self) -> float:
        return 1 / self.fps

    def at(self, i: int) -> float:
        return self.start + i / self.fps

    def index(self, time: float) -> int:
        """The first i whose time is not before `time`."""
        return max(0, math.ceil((time - self.start - EPSILON) * self.fps))


@dataclass(frozen=True, slots=True)
class Times:
    """Times one by one, in ascending order; before and after the pictures, the first and the last stand in."""

    times: Sequence[float]
    step: float = math.inf

    def at(self, i: int) -> float:
        return self.times[i] if i < len(self.times) else math.inf

    def index(self, time: float) -> int:
        return bisect_left(self.times, time - EPSILON)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Which pictures of a video, and how.

    Attributes:
        fps: the picture shown at each time start + i / fps; None: every picture, at its own time.
        size: the short side is scaled to it and the middle `size` x `size` is kept; None: full size.
        background: grey level 0 to 255 behind transparent pixels.
    """

    fps: float | None = None
    size: int | None = None
    background: int = 0

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise UsageError(f"fps must be over 0 and at most 1000, is {self.fps}")
        if self.size is not None and not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"size must be 1 to {MAX_SIZE}, is {self.size}")

    def plan(self, start: float) -> Grid | None:
        """The times from `start` on; None: every picture at its own time."""
        return Grid(start, self.fps) if self.fps else None


class PictureTrack:
    """Takes decoded frames in display order, gives the `Frame`s asked for; holds one decoded frame.

    The picture at a planned time is the last whose time is not after it. Before the first picture there is none, except
    within one step of the plan, where the first stands in; the last is shown for its own duration.

    Args:
        plan: the times asked for; None: every picture at its own time.

    Attributes:
        begin: seconds before which no picture will come.
    """

    def __init__(
        self,
        plan: Grid | Times | None,
        convert: Converter,
        *,
        start: float,
        end: float,
        counts: Counter[str],
        max_frames: int,
        max_seconds: float,
    ) -> None:
        self._plan, self._convert, self._start, self._end = plan, convert, start, end
        self._counts, self._max_frames, self._max_seconds = counts, max_frames, max_seconds
        self._held: tuple[Any, float, float] | None = None  # frame, its time, its end
        self._next = 0
        self._n_frames = 0
        self.begin = -math.inf
        self.done = False

    @property
    def clock(self) -> float:
        """No picture from before this time is still to come."""
        if self._held is None:
            return self.begin
        return self._plan.at(self._next) if self._plan else self._held[1]

    @property
    def end(self) -> float:
        """Until when the last picture that came is shown."""
        return self._held[2] if self._held else self._start

    def wanted(self, time: float, until: float) -> bool:
        """Whether a picture shown from `time` until `until` will be asked for."""
        if self._plan is None:
            return until > self._start
        return self._plan.at(self._plan.index(time)) < until - EPSILON

    def push(self, time: float | None, duration: float, frame: Any) -> Iterator[Frame]:
        """The pictures that are settled once `frame` is known."""
        self._n_frames += 1
        if self._n_frames > self._max_frames:
            raise LimitError("frames", f"more than {self._max_frames} frames")
        last = self._held
        if time is None or (last and time <= last[1]):
            self._counts["timestamps guessed"] += 1
            time = last[2] if last else max(self._start, 0.0)
        if time > self._max_seconds:
            raise LimitError("seconds", f"more than {self._max_seconds:.0f} s of pictures")
        duration = min(duration or (time - last[1] if last else 0.04), MAX_DURATION)
        if self._plan is not None:
            yield from self._until(self._plan, time)
        self._held = frame, time, time + duration
        if self._plan is None and self._start - EPSILON <= time < self._end:
            yield Frame(time, self._convert(frame))
        self.done = min(time, self.clock) >= self._end or self.clock == math.inf

    def flush(self) -> Iterator[Frame]:
        """The pictures that are left once the last frame has come."""
        if self._held and self._plan is not None:
            yield from self._until(self._plan, math.inf if isinstance(self._plan, Times) else self._held[2])
        self.done = True

    def restart(self) -> Iterator[Frame]:
        """The pictures that are left before a gap; what follows it shows none from before."""
        if not self.done:
            yield from self.flush()
            self._held, self.done = None, False

    def _until(self, plan: Grid | Times, time: float) -> Iterator[Frame]:
        """Planned times before `time` show the held picture."""
        if self._held is None:
            self._next = max(self._next, plan.index(time - plan.step + 2 * EPSILON))
            return
        picture = None
        while (at := plan.at(self._next)) < min(time - EPSILON, self._end):
            picture = self._convert(self._held[0]) if picture is None else picture
            self._next += 1
            yield Frame(at, picture)


class Converter:
    """Decoded frames to uint8 [3, H, W]: one swscale pass scales and converts, then turn and crop.

    Colour follows the tags; untagged video is BT.709 from 720 lines on and BT.601 below, as players have it.
    Transparent pixels lie on the background. The first frame fixes the geometry; later frames of other sizes are
    scaled to cover it.
    """

    def __init__(self, size: int | None, background: int, counts: Counter[str]) -> None:
        self._target = (size, size) if size else None
        self._background = background
        self._counts = counts
        self._geometry: tuple[int, int] | None = None
        self._upright: dict[
            int, tuple[int, bool]
        ] = {}  # by rotation: to read a frame's matrix keeps it from being freed
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Any) -> Tensor:
        if frame.rotation not in self._upright:
            self._upright[frame.rotation] = orientation(frame)
        turn, flip = self._upright[frame.rotation]
        stored = frame.width, frame.height
        shown = stored[::-1] if turn % 2 else stored
        self._note(frame, shown)
        self._target = self._target or shown
        width, height = cover(shown, self._target)
        if turn % 2:
            width, height = height, width
        alpha = any(c.is_alpha for c in frame.format.components) or frame.format.name == "pal8"
        rgb = self._reformatter.reformat(
            frame,
            width,
            height,
            "rgba" if alpha else "rgb24",
            src_colorspace=ITU709 if frame.colorspace == 2 and frame.height >= 720 else None,
            src_color_range=frame.color_range,
            interpolation="BILINEAR",
            threads=1,
        ).to_ndarray()
        if alpha:
            rgb = over(rgb, self._background)
        rgb = np.rot90(rgb[:, ::-1] if flip else rgb, turn)
        left, top = (rgb.shape[1] - self._target[0]) // 2, (rgb.shape[0] - self._target[1]) // 2
        rgb = rgb[top : top + self._target[1], left : left + self._target[0]]
        return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))

    def _note(self, frame: Any, shown: tuple[int, int]) -> None:
        if self._geometry not in (None, shown):
            self._counts["size change"] += 1
        self._geometry = shown
        if frame.interlaced_frame:
            self._counts["interlaced frames"] += 1
        if frame.color_trc in (16, 18):
            self._counts["hdr without tone mapping"] = 1


def over(rgba: np.ndarray, background: int) -> np.ndarray:
    """Straight-alpha uint8 [H, W, 4] over a grey level: uint8 [H, W, 3], rounded."""
    alpha = rgba[..., 3:].astype(np.uint32)
    return ((rgba[..., :3] * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)


def cover(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The size to which a picture is scaled so that it covers `target` (both width, height), its aspect kept up to
    16:1.
    """
    scale = max(target[0] / size[0], target[1] / size[1])
    width, height = (max(t, min(round(s * scale), MAX_ASPECT * max(target))) for s, t in zip(size, target, strict=True))
    return width, height


def orientation(frame: Any) -> tuple[int, bool]:
    """How to set a stored picture upright: first mirror left and right (or not), then so many quarter turns
    counter-clockwise.
    """
    matrix = next((s for s in frame.side_data if s.type == SideData.DISPLAYMATRIX), None)
    if matrix is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    flip = a * d - b * c < 0
    if flip:
        a, b = -a, -b
    return round(math.degrees(math.atan2(-b, a)) / 90) % 4, flip
