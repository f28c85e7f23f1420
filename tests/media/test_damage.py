"""Damage in the middle of an encoded stream: what is lost is marked, and what follows goes on in its place."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import av
import pytest
from clips import clip, number, sound_file, tone

from mmworld.errors import MMWorldError
from mmworld.models.opening import open_streams
from mmworld.models.world import World
from mmworld.stream.again import HOLE
from mmworld.types import Chunk, Gap
from mmworld.verbs.model import loaded

SECONDS, FPS = 8, 25
STEP = 0.25
"""Seconds for which a picture stands, and by which one after a gap may be early."""
TONE = tone(SECONDS, 48_000)
CLIPS = {
    "mpegts": {"container": "mpegts"},
    "mp4": {"container": "mp4"},
    "matroska": {"container": "matroska", "sound_codec": "libopus", "sound_rate": 48_000},
}
DAMAGE = ("zeros", "noise", "missing", "flips")


@pytest.fixture(scope="module")
def world() -> World:
    found = loaded("nano", "cpu")
    assert isinstance(found, World)
    return found


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    options = {"g": str(FPS), "bf": "0"}
    sound = {"sound": TONE, "sound_rate": 48_000}
    found = {n: clip(SECONDS * FPS, fps=FPS, options=options, **(sound | how)) for n, how in CLIPS.items()}  # type: ignore[arg-type]
    found["intra"] = clip(SECONDS * FPS, fps=FPS, options={"g": "1"}, container="mpegts", **sound)  # type: ignore[arg-type]
    found["wav"] = sound_file(TONE, 48_000)
    found["mp3"] = sound_file(TONE, 48_000, codec="libmp3lame", container="mp3")
    return found


@pytest.fixture(autouse=True)
def quiet() -> None:
    av.logging.set_libav_level(av.logging.PANIC)  # not set_level: its callback waits for Python in a decoder's threads


def damaged(data: bytes, kind: str, rng: random.Random, least: float = 0.1) -> bytes:
    """Bytes in the middle are changed or missing: `least` to two seconds' worth, from the third second to the sixth."""
    at = len(data) * 3 // 8 + rng.randrange(len(data) // 8)
    size = rng.randrange(round(len(data) * least / SECONDS), len(data) // 4)
    new = {"zeros": bytes(size), "noise": rng.randbytes(size), "missing": b""}
    if kind != "flips":
        return data[:at] + new[kind] + data[at + size :]
    out = bytearray(data)
    for _ in range(rng.randint(1, 50)):
        out[at + rng.randrange(size)] ^= 1 << rng.randrange(8)
    return bytes(out)


def read(world: World, data: bytes) -> dict[str, list[Chunk | Gap]]:
    opened = open_streams(world, data)
    found: dict[str, list[Chunk | Gap]] = {n: [] for n in opened.modalities}
    for item in opened.chunks:
        if item.end > item.start:
            found[item.modality].append(item)
    return found


def once(world: World, whole: dict[str, bytes], seed: int) -> None:
    """Whatever is damaged: it is refused, or each second is given or marked, and it goes on to its end."""
    rng = random.Random(seed)
    name, kind = rng.choice(sorted(whole)), rng.choice(DAMAGE)
    try:
        found = read(world, damaged(whole[name], kind, rng))
    except MMWorldError:
        return
    for modality, items in found.items():
        assert all(abs(a.end - b.start) <= HOLE for a, b in pairwise(items)), f"{seed}: {name} {kind} {modality}"
        if name in ("mpegts", "intra"):
            assert items[-1].end >= SECONDS - 0.5, f"{seed}: goes on"


@pytest.mark.parametrize("seed", [*range(8), 46, 83, 90, 130])  # those that ended in a fault of ours, once
def test_damage(world: World, whole: dict[str, bytes], seed: int) -> None:
    once(world, whole, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_damage_many_times(world: World, whole: dict[str, bytes]) -> None:
    for seed in range(300):
        once(world, whole, seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["zeros", "noise", "missing"])
def test_no_picture_stands_in_for_what_is_lost_and_no_silence(
    world: World, whole: dict[str, bytes], kind: str, seed: int
) -> None:
    """Of a broadcast whose pictures stand alone each that is given was shown then; all that is heard is the tone."""
    found = read(world, damaged(whole["intra"], kind, random.Random(seed), least=0.6))
    gaps = {n: [i for i in items if isinstance(i, Gap)] for n, items in found.items()}
    assert gaps["video"]
    assert gaps["audio"]
    assert {(g.reason, g.end - g.start < 3.5) for some in gaps.values() for g in some} == {("missing", True)}
    for chunk in found["video"]:
        if isinstance(chunk, Chunk):
            assert abs(number(chunk.data[0]) - chunk.start * FPS) <= STEP * FPS + 1
    heard = [c for c in found["audio"] if isinstance(c, Chunk) and c.end < SECONDS - 0.1]
    assert all(float(c.data.square().mean().sqrt()) > 0.25 for c in heard)


def test_a_real_recording_that_is_damaged(world: World, shared_data: Path) -> None:
    found = read(world, (shared_data / "media" / "video" / "corrupted.mp4").read_bytes())
    assert all(abs(a.end - b.start) <= HOLE for items in found.values() for a, b in pairwise(items))
