"""Streams of scenes, one after another, in which something happens at irregular times that are known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from numpy.random import Generator

from mmworld.render import scenes, sounds
from mmworld.render.words import join, noun
from mmworld.types import Caption, Chunk

SENSES = {"seen": ("video",), "heard": ("audio",), "both": ("video", "audio")}
"""Kinds of streams, and of what each is made."""
LONGEST = 1.5
"""Seconds that something seen takes at most."""
Event = tuple[float, str]
"""When something is over, in seconds, and what it was."""


@dataclass(frozen=True)
class Course:
    """Whole streams, each in one chunk, and what is to be told of them: each event when all of it has come."""

    chunks: tuple[Chunk, ...]
    events: tuple[Caption, ...]


def draw(rng: Generator, kind: str, seconds: float) -> Course:
    """A course of a kind of SENSES, of at least so many seconds: scenes of one to four events, with pauses of half a
    second to eight. That a scene gives way to the next is nothing to be told of.
    """
    parts: list[Sequence[Chunk]] = []
    events: list[Caption] = []
    clock = 0.0
    while clock < seconds:
        chunks, found = _heard(rng) if kind == "heard" else _seen(rng, sounding=kind == "both")
        for done, text in found:
            events.append(Caption(text, events[-1].end if events else 0.0, clock + done))
        clock += chunks[0].end
        parts.append(chunks)
    whole = (torch.cat([c.data for c in stream]) for stream in zip(*parts, strict=True))
    named = zip(whole, SENSES[kind], strict=True)
    return Course(tuple(Chunk(data, 0.0, clock, name, last=True) for data, name in named), tuple(events))


def _seen(rng: Generator, *, sounding: bool) -> tuple[tuple[Chunk, ...], list[Event]]:
    """A scene, and a sound track: of three events one sounds, and after another comes a sound by itself."""
    n = int(rng.integers(1, 5))
    heard = [sounds.draw(rng, 0.0) if sounding else None for _ in range(n)]
    after = [float(rng.choice((-1.0, 0.0, rng.uniform(0.5, 3.0)))) for _ in range(n)]  # -1: no sound, 0: with the event
    rooms = [LONGEST + max(a, 0.0) + (s.end if s else 0.0) + _pause(rng) for a, s in zip(after, heard, strict=True)]
    scene = scenes.draw(rng, n, rooms)
    video = scenes.video(scene)
    track: list[sounds.Sound] = []
    events: list[Event] = []
    for e, s, a in zip(scene.events, heard, after, strict=True):
        done, text = e.done, f"{noun(e.thing.name)} {e.action}"
        if s is not None and a == 0:
            track.append(replace(s, start=e.start))
            done, text = max(done, track[-1].end), join((text, s.phrase))
        events.append((done, text))
        if s is not None and a > 0:
            track.append(replace(s, start=e.start + LONGEST + a))
            events.append((track[-1].end, s.phrase))
    return (video, sounds.audio(rng, track, video.end))[: 1 + sounding], events


def _heard(rng: Generator) -> tuple[tuple[Chunk, ...], list[Event]]:
    """Sounds over noise that is as loud throughout."""
    track: list[sounds.Sound] = []
    clock = _pause(rng)
    for _ in range(int(rng.integers(1, 5))):
        track.append(sounds.draw(rng, clock))
        clock = track[-1].end + _pause(rng)
    return (sounds.audio(rng, track, clock),), [(s.end, s.phrase) for s in track]


def _pause(rng: Generator) -> float:
    return min(0.5 + float(rng.exponential(2.0)), 8.0)
