"""Scenes that sound: each visual event with a sound that starts with it."""

from __future__ import annotations

from dataclasses import replace

from numpy.random import Generator

from mmworld.render import scenes, sounds
from mmworld.render.words import Rendered, join


def clip(rng: Generator, *, size: int = 96, fps: float = 4.0, rate: int = 16_000) -> Rendered:
    """A video with its sound track, captioned "<what is seen>. <what is heard>"."""
    n = int(rng.integers(1, 4))
    heard: list[sounds.Sound] = []
    for _ in range(int(rng.integers(1, n + 1))):
        heard.append(sounds.draw(rng, 0.0, unlike=heard[-1].name if heard else ""))
    scene = scenes.draw(rng, n, [s.end for s in heard])
    heard = [replace(s, start=e.start) for s, e in zip(heard, scene.events, strict=False)]
    video = scenes.video(scene, size, size, fps)
    chunks = (video, sounds.audio(rng, heard, video.end, rate))
    return Rendered(chunks, join((scene.caption, sounds.caption(heard))))
