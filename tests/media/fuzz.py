"""Mutated files against the gate and the readers: `python tests/media/fuzz.py [N] [SEED]`.

Whatever the bytes, out come frames, samples, pixels or one of our own errors, within ten seconds. A file that does
worse is written to the working directory as fuzz-*.bin, and the exit code is 1.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from clips import clip, numbered, sound_file, tone

from mmworld.errors import MMWorldError
from mmworld.media.gate import Media, open_media
from mmworld.media.image import read as read_image
from mmworld.media.pictures import Pictures
from mmworld.media.read import read
from mmworld.media.sound import Sound

SLOW = 10.0


def seeds() -> list[bytes]:
    x = tone(1.0, 48_000)
    sounds = [("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac")]
    films = [
        clip(20, sound=x, sound_rate=48_000),
        clip(20, sound=x, sound_rate=48_000, container="matroska"),
        clip(20, sound=x, sound_rate=48_000, sound_codec="mp2", container="mpegts"),
        clip(20, sound=x, sound_rate=48_000, sound_codec="mp2", container="avi", codec="mpeg4"),
        clip(20, muxing={"movflags": "frag_keyframe+empty_moov"}),
        clip(10, codec="gif", container="gif", pix_fmt="rgb8"),
        clip(10, codec="libvpx-vp9", container="webm", pix_fmt="yuva420p"),
    ]
    pictures = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(numbered(5)).save(file, form)
        pictures.append(file.getvalue())
    return films + pictures + [sound_file(x, 48_000, container=c, codec=k) for c, k in sounds]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed (often in the header), the end cut off, or a stretch taken out."""
    out, how = bytearray(data), rng.integers(5)
    if how < 3:
        reach = len(out) if how else min(len(out), 600)
        for at in rng.integers(0, reach, int(rng.integers(1, 12))):
            out[at] = rng.integers(256)
    a, b = sorted(rng.integers(1, len(out), 2))
    return bytes(out if how < 3 else out[:a] if how == 3 else out[:a] + out[b:])


def consume(media: Media, n: int) -> None:
    if media.kind == "image":
        read_image(media)
        return
    video = Pictures(5 if n % 2 else None, 32) if media.has_video else None
    audio = Sound(16_000, mono=bool(n % 3)) if media.has_audio else None
    for _ in read(media, video=video, audio=audio, start=0.3 if n % 5 == 0 else 0.0):
        pass


def main(n_runs: int, seed: int) -> int:
    rng, outcomes, sources = np.random.default_rng(seed), Counter[str](), seeds()
    for n in range(n_runs):
        data = mutated(sources[int(rng.integers(len(sources)))], rng)
        start, outcome = time.monotonic(), "ok"
        try:
            media = open_media(data)
            consume(media, n)
            outcome = "salvaged" if media.warnings else "ok"
        except MMWorldError as e:
            outcome = getattr(e, "code", "error")
        except Exception as e:  # what is looked for
            outcome = f"FAULT {type(e).__name__}"
        if time.monotonic() - start > SLOW:
            outcome = "FAULT slow"
        if outcome.startswith("FAULT"):
            Path(f"fuzz-{seed}-{n}.bin").write_bytes(data)
            print(n, outcome, file=sys.stderr)
        outcomes[outcome] += 1
    print(n_runs, "runs:", ", ".join(f"{k} {v}" for k, v in outcomes.most_common()))
    return int(any(k.startswith("FAULT") for k in outcomes))


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:3]]
    sys.exit(main(*(arguments + [1000, 0][len(arguments) :])))
