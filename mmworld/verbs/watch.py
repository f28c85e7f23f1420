"""`mmworld.watch(source)`: what is to be told of a source for as long as it lasts, and questions at any time."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmworld.errors import UsageError
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.media.devices import is_device, open_device
from mmworld.media.follow import Growing
from mmworld.media.gate import Media
from mmworld.models.captioner import DEFAULT, Captioner, Tap
from mmworld.models.events import STALL, Stall
from mmworld.models.growing import STILL, open_growing
from mmworld.models.hindsight import Hindsight
from mmworld.models.keep import Keep
from mmworld.models.live import Live
from mmworld.models.message import Assistant
from mmworld.models.opening import Opened
from mmworld.models.teller import Teller
from mmworld.models.world import World
from mmworld.stream.again import Backoff, again
from mmworld.stream.economy import Economy
from mmworld.stream.intake import Pressure
from mmworld.stream.memory import Memory
from mmworld.stream.policy import Policy
from mmworld.types import Chunk, Gap, Moment, Source
from mmworld.verbs.caption import captioner
from mmworld.verbs.model import loaded

log = logging.getLogger(__name__)


def watch(
    source: Source | Media | Opened | None = None,
    *,
    model: str | os.PathLike[str] | World | Assistant = "nano",
    device: str = "cpu",
    policy: Policy = DEFAULT,
    sampler: Sampler = GREEDY,
    prompt: str = "",
    stop: Stop = STOP,
    keep: Keep | None = None,
    economy: Mapping[str, Economy] | None = None,
    provisional: float = math.inf,
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
    tap: Tap | None = None,
    stall: float = STALL,
    alarm: Callable[[Stall], object] | None = None,
    **sources: Source | Media | Opened,
) -> Live:
    """Watch a source, and others on the same clock (`"clip.mp4", sensor="log.csv"`), for as long as they last.

        with mmworld.watch("clip.mp4", policy=mmworld.Every(2.0)) as live:
            for event in live:
                print(event)

    Args:
        source: what `mmworld.stream` takes, or what is live: "/dev/video0", "mic:", "screen:", "rtsp://host/path",
            "rtmp://host/path", "ws://host/path", "https://host/path.m3u8". What is lost is connected again, its
            outage a `Gap`.
        model: as for `mmworld.stream`.
        keep: what is remembered across captions, and told of again; None: each caption is of what came since the last.
            Models of ours do, and borrowed ones that can be told of a film as it comes (Qwen-VL, LLaVA and its kin).
        economy: of a modality, which tokens are worth their place (`{"video": Economy(0.97)}`); none: all. Of models of
            ours alone; see `Live.tokens`.
        real_time: play files no faster than they were recorded.
        provisional, pressure, patience, resume, tap, stall, alarm: see `Live`.
        memory: a file in which what was told is kept, and a little of what was perceived, and found again when asked;
            gone on with if it is there. Of a borrowed model it is what was told alone, and found by its words and its
            time, not by its meaning.
        allow_hosts: from which streams may come, "HOST[:PORT]" each.
        follow: wait for what is written to a file, or appears in a folder, until it is removed.
        start, end, fps: of files, see `Captioner.stream`.

    Raises:
        UsageError: no source is given, one sense comes from two, or the model does not tell of anything.
        CheckpointError: there is no such model, or `resume` does not fit.
        MediaError: a source is refused.
    """
    if source is None and not sources:
        raise UsageError("no source", hint='a file or a camera, or one for each sense: video="a.mp4", sensor="b.csv"')
    found = loaded(model, device)
    teller = captioner(found, policy, sampler, prompt, stop, keep, economy)
    options: dict[str, Any] = {"start": start, "end": end, "fps": fps}
    named = [] if source is None else [(None, source)]
    away = _away(resume)
    opened = [_opened(teller, s, name, options, allow_hosts, follow, away) for name, s in [*named, *sources.items()]]
    bank = None if memory is None else Memory(memory, _meaning(found))
    return Live(
        teller,
        opened,
        real_time=real_time,
        pressure=pressure,
        patience=patience,
        start=start,
        provisional=provisional,
        resume=resume,
        memory=bank,
        hindsight=Hindsight(found, bank, sampler, stop) if bank is not None and isinstance(found, World) else None,
        tap=tap,
        stall=stall,
        alarm=alarm,
    )


def _opened(
    teller: Teller[Any],
    source: Any,
    name: str | None,
    options: dict[str, Any],
    hosts: Sequence[str],
    follow: bool,
    away: float,
) -> Opened:
    if isinstance(source, str) and is_device(source):
        return _device(
            lambda: open_device(source, allow_hosts=hosts), lambda media: teller.open(media, name, **options), away
        )
    if follow and isinstance(source, str | os.PathLike):
        if os.path.isdir(source):
            return _growing(teller, Path(source), name, options["fps"])
        source = Growing(Path(source))
    return teller.open(source, name, **options)


def _growing(teller: Teller[Any], folder: Path, name: str | None, fps: float | None) -> Opened:
    adapters: Any = teller.world.adapters if isinstance(teller, Captioner) else {}
    cloud = adapters["points"].hop if "points" in adapters else STILL
    return open_growing(lambda path: teller.open(path, name, fps=fps), folder, cloud=cloud)


def _device(media: Callable[[], Media], opened: Callable[[Media], Opened], away: float) -> Opened:
    """What is live, connected again when it is lost; it must be there the first time. What ends is read once. What was
    left out or repaired in a connection is logged at its end. A stream that is gone on with was left `away` seconds
    ago.
    """

    def fresh() -> tuple[Media, Opened]:
        found = media()
        return found, opened(found)

    there, first = fresh()
    if there.duration is not None:
        return first
    known = iter([(there, first)])

    def connect() -> Iterator[Chunk | Gap]:
        source, found = next(known, None) or fresh()
        try:
            yield from (c for c in found.chunks if c.modality in first.modalities)
        finally:
            if warnings := source.warnings:
                log.warning("%s: %s", first.name, "; ".join(warnings))

    def since(left: float) -> Any:
        return again(connect, first.name, first.modalities, backoff=Backoff(), left=left, away=away)

    chunks: Any = again(connect, first.name, first.modalities, backoff=Backoff())
    return Opened(first.name, first.modalities, chunks, live=True, since=since)


def _away(resume: Path | str | None) -> float:
    """Seconds since a stream was left: since its state was saved."""
    try:
        return 0.0 if resume is None else max(time.time() - os.stat(resume).st_mtime, 0.0)
    except OSError:  # which reading it will tell of
        return 0.0


def _meaning(model: Any) -> Callable[[str], Any] | None:
    """A text's meaning to the model; None if it is borrowed: then what was told is found by its words and its time."""
    return (lambda text: model.meaning(text).numpy(force=True)) if isinstance(model, World) else None


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
    of a span of seconds, in order. Of what nothing was told it is said what the model sees in what is kept of it.

    Raises:
        UsageError: the file holds no memory.
    """
    if question is None:
        return _seen(Memory(memory).between(*span, most), memory, model, device)
    bank = Memory(memory, _meaning(loaded(model, device)))
    found = bank.find(question, most if span == (0.0, math.inf) else 20 * most)
    return _seen([m for m in found if m.start < span[1] and m.end > span[0]][:most], memory, model, device)


def _seen(moments: list[Moment], memory: Path | str, model: Any, device: str) -> list[Moment]:
    """The moments, those without a text with what a model of ours sees in what is kept of them."""
    untold = [m for m in moments if not m.text]
    if not untold or not isinstance(world := loaded(model, device), World):
        return moments
    seen = dict(zip(untold, Hindsight(world, Memory(memory)).look(untold), strict=True))
    return [seen.get(m, m) for m in moments]
