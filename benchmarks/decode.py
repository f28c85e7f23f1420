"""How fast pictures and sound come out of a file: mmworld, a plain av loop and decord side by side on a rendered clip.

    python benchmarks/decode.py [FILE] [--seconds 20] [--height 720] [--fps 2] [--size 224] [--repeat 5] [--json]

All run in turn, `--repeat` times over, so that a busy machine is busy for all of them; the table shows medians and the
ratio to the plain loop that decodes every frame and converts none, the floor for any reader that looks at each frame.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from figures import in_turn

from mmworld.media.audio import samples
from mmworld.media.gate import open_media
from mmworld.media.pictures import Pictures
from mmworld.media.probe import THREADS
from mmworld.media.read import read
from mmworld.media.sound import Sound
from mmworld.media.video import frames, uniform

Run = Callable[[], int]


def render(path: Path, seconds: int, height: int, rate: int = 30) -> None:
    """A moving, lightly noisy H.264 clip with a tone, like a phone's."""
    width, rng = height * 16 // 9, np.random.default_rng(0)
    slope = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array([1, 2, 3])
    noise = rng.integers(-6, 7, (height, width, 3))
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23", "g": str(rate * 4)})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=48000)
        audio.codec_context.layout = "stereo"
        for i in range(seconds * rate):
            picture = np.roll(slope, i * 3, 1) // 8 % 256 + np.roll(noise, i * 17, 0)
            x = i * 7 % (width - height // 3)
            picture[height // 3 : height // 3 * 2, x : x + height // 3] = (i * 2 % 256, 60, 200)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            out.mux(video.encode(frame))
            t = (np.arange(1600) + i * 1600) / 48000
            wave = np.repeat(0.3 * np.sin(2 * np.pi * 440 * t)[None], 2, 0).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            sound.sample_rate, sound.pts, sound.time_base = 48000, i * 1600, Fraction(1, 48000)
            out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())


def plain(path: Path, every: int | None, size: int) -> Run:
    """A loop over av alone; converts each `every`-th frame at full size and scales it, or none."""

    def run() -> int:
        n = 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
            for i, frame in enumerate(container.decode(stream)):
                if every and i % every == 0:
                    frame.reformat(format="rgb24").reformat(size * 16 // 9, size).to_ndarray()
                    n += 1
        return n

    return run


def decord_batch(path: Path, indices: list[int], size: int) -> Run:
    def run() -> int:
        import decord

        reader = decord.VideoReader(str(path), width=size, height=size, num_threads=THREADS)
        return len(reader.get_batch(indices).asnumpy())

    return run


def contenders(path: Path, fps: float, size: int) -> dict[str, Run]:
    media = open_media(path)
    rate, duration = media.video.fps if media.video and media.video.fps else 30.0, media.duration or 0.0
    every, n_frames = max(round(rate / fps), 1), int(rate * duration)

    def both() -> int:
        return sum(1 for _ in read(open_media(path), video=Pictures(fps, size), audio=Sound(16_000, mono=True)))

    runs: dict[str, Run] = {
        "plain av loop, no conversion": plain(path, None, size),
        "plain av loop, wanted frames": plain(path, every, size),
        f"mmworld frames, {fps:g} fps": lambda: sum(1 for _ in frames(open_media(path), fps=fps, size=size)),
        "mmworld frames, every one": lambda: sum(1 for _ in frames(open_media(path), size=size)),
        "mmworld 8 uniform": lambda: len(uniform(open_media(path), 8, size=size)),
    }
    if media.has_audio:
        runs["mmworld pictures and sound"] = both
        runs["mmworld sound, 16 kHz mono"] = lambda: sum(1 for _ in samples(open_media(path), rate=16_000, mono=True))
    try:
        import decord  # noqa: F401
    except ImportError:
        return runs
    runs[f"decord batch, {fps:g} fps"] = decord_batch(path, list(range(0, n_frames, every)), size)
    runs["decord 8 uniform"] = decord_batch(path, [int((i + 0.5) * n_frames / 8) for i in range(8)], size)
    return runs


def measure(path: Path, fps: float, size: int, repeat: int) -> dict[str, object]:
    runs = contenders(path, fps, size)
    times = in_turn(runs, repeat)
    duration = open_media(path).duration or 0.0
    floor = statistics.median(times["plain av loop, no conversion"])
    rows = [
        {"name": name, "seconds": round(m, 4), "x_real_time": round(duration / m, 1), "ratio": round(m / floor, 2)}
        for name, m in ((name, statistics.median(t)) for name, t in times.items())
    ]
    return {"duration": duration, "cpus": os.cpu_count(), "threads": THREADS, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="a video; default: a rendered clip")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "clip.mp4"
        if options.file is None:
            render(path, options.seconds, options.height)
        result = measure(path, options.fps, options.size, options.repeat)
    if options.json:
        print(json.dumps({"schema_version": 1, **result}))
        return
    print(f"{result['duration']:.1f} s of video, {result['threads']} threads")
    for row in result["rows"]:  # type: ignore[attr-defined]
        print(f"{row['name']:32}{row['seconds']:9.3f} s{row['x_real_time']:9.1f}x real time{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
