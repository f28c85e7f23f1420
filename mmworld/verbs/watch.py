"""`mmworld.watch(source)`: what is to be told of a source for as long as it lasts, and questions at any time."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmworld.errors import UsageError
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.devices import is_device, open_device
from mmworld.media.follow import Growing
from mmworld.media.gate import Media
from mmworld.models.captioner import DEFAULT, Captioner
from mmworld.models.growing import open_growing
from mmworld.models.live import Live
from mmworld.models.opening import Opened, open_modality, open_streams
from mmworld.models.session import Keep
from mmworld.models.world import World
from mmworld.stream.again import Backoff, again
from mmworld.stream.intake import Pressure
from mmworld.stream.memory import Memory, Moment
from mmworld.stream.policy import Policy
from mmworld.types import Source
from mmworld.verbs.model import loaded


def watch(
    source: Source | Media | Opened | None = None,
    *,
    model: str | os.PathLike[str] | World = "nano",
    device: str = "cpu",
    policy: Policy = DEFAULT,
    sampler: Sampler = GREEDY,
    prompt: str = "",
    stop: Stop = STOP,
    keep: Keep | None = None,
    real_time: bool = False,
    pressure: Pressure = "drop",
    patience: float = 2.0,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    allow_hosts: Sequence[str] = (),
    follow: bool = False,
    memory: Path | str | None = None,
    resume: Path | str | None = None,
    **sources: Source | Media | Opened,
) -> Live:
    """Watch a source, and others on the same clock (`"clip.mp4", sensor="log.csv"`), for as long as they last.

        with mmworld.watch("clip.mp4", policy=mmworld.Every(2.0)) as live:
            for event in live:
                print(event)

    Args:
        source: what `mmworld.stream` takes, or what is live: "/dev/video0", "mic:", "screen:", "rtsp://host/path",
            "rtmp://host/path", "https://host/path.m3u8". What is lost is connected again, its outage a `Gap`.
        keep: what is remembered across captions, and told of again; None: each caption is of what came since the last.
        real_time: play files no faster than they were recorded.
        pressure, patience, resume: see `Live`.
        memory: a file in which what was told is kept, and found again when asked; gone on with if it is there.
        allow_hosts: from which streams may come, "HOST[:PORT]" each.
        follow: wait for what is written to a file, or appears in a folder, until it is removed.
        start, end, fps: of files, see `Captioner.stream`.

    Raises:
        UsageError: no source is given, one sense comes from two, or the model is not one of ours.
        CheckpointError: there is no such model, or `resume` does not fit.
        MediaError: a source is refused.
    """
    if source is None and not sources:
        raise UsageError("no source", hint='a file or a camera, or one for each sense: video="a.mp4", sensor="b.csv"')
    world = loaded(model, device)
    if not isinstance(world, World):
        raise UsageError("only models of ours watch so far", hint="mmworld.stream captions with borrowed ones")
    options = {"start": start, "end": end}
    opened = [] if source is None else [_opened(world, source, None, options | {"fps": fps}, allow_hosts, follow)]
    opened += [_opened(world, s, name, options, allow_hosts, follow) for name, s in sources.items()]
    captioner = Captioner(world, policy, sampler, prompt, stop, keep)
    bank = None if memory is None else Memory(memory, lambda text: world.meaning(text).numpy(force=True))
    how: dict[str, Any] = {
        "real_time": real_time,
        "pressure": pressure,
        "patience": patience,
        "start": start,
        "resume": resume,
    }
    return Live(captioner, opened, memory=bank, **how)


def _opened(
    world: World, source: Any, name: str | None, options: dict[str, Any], hosts: Sequence[str], follow: bool
) -> Opened:
    wanted = (name,) if name else None
    if isinstance(source, str) and is_device(source):
        return _device(world, source, wanted, options.get("fps"), hosts)
    if follow and isinstance(source, str | os.PathLike):
        if os.path.isdir(source):
            return open_growing(world, Path(source), fps=options.get("fps"), modalities=wanted)
        source = Growing(Path(source))
    return open_modality(world, name, source, **options) if name else open_streams(world, source, **options)


def _device(
    world: World, address: str, wanted: tuple[str, ...] | None, fps: float | None, hosts: Sequence[str]
) -> Opened:
    """What is live, connected again when it is lost; it must be there the first time. What ends is read once."""
    media = open_device(address, allow_hosts=hosts)
    first = open_streams(world, media, fps=fps, modalities=wanted)
    if media.duration is not None:
        return first
    known = iter([first])

    def connect() -> Any:
        found = next(known, None)
        if found is None:
            media = open_device(address, allow_hosts=hosts)
            found = open_streams(world, media, fps=fps, modalities=first.modalities)
        return found.chunks

    chunks: Any = again(connect, first.name, first.modalities, backoff=Backoff())
    return Opened(first.name, first.modalities, chunks, live=True)


def recall(
    memory: Path | str,
    question: str | None = None,
    *,
    model: str | os.PathLike[str] | World = "nano",
    device: str = "cpu",
    most: int = 5,
    span: tuple[float, float] = (0.0, math.inf),
) -> list[Moment]:
    """When something was told of a stream that was watched with `memory`: what fits a question, the best first, or all
    of a span of seconds, in order.

    Raises:
        UsageError: the file holds no memory.
    """
    if question is None:
        return Memory(memory).between(*span, most)
    world = loaded(model, device)
    embed = (lambda text: world.meaning(text).numpy(force=True)) if isinstance(world, World) else None
    found = Memory(memory, embed).find(question, most if span == (0.0, math.inf) else 20 * most)
    return [m for m in found if m.start < span[1] and m.end > span[0]][:most]
