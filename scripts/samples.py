"""Make the sample media of the package: python scripts/samples.py (seeded; the captions are what is true of each)."""

from __future__ import annotations

import json
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from mmworld.render import mixed, scenes, series, shapes, sounds
from mmworld.types import Chunk

FOLDER = Path(__file__).parents[1] / "mmworld" / "samples"
FPS, SIZE, RATE = 12, 288, 16_000


def main() -> None:
    """Write every sample and captions.json."""
    captions = {}
    clip = mixed.clip(np.random.default_rng(7), size=SIZE, fps=FPS, rate=RATE)
    write_mp4(FOLDER / "scene.mp4", *clip.chunks)
    captions["scene.mp4"] = clip.caption
    sound = sounds.clip(np.random.default_rng(15), rate=RATE)
    write_wav(FOLDER / "sounds.wav", sound.chunks[0])
    captions["sounds.wav"] = sound.caption
    still = scenes.still(np.random.default_rng(11), size=SIZE)
    Image.fromarray(still.chunks[0].data[0].permute(1, 2, 0).numpy()).save(FOLDER / "shapes.png", optimize=True)
    captions["shapes.png"] = still.caption
    solid = shapes.cloud(np.random.default_rng(1), points=2048)
    write_ply(FOLDER / "solid.ply", solid.chunks[0])
    captions["solid.ply"] = solid.caption
    signal = series.clip(np.random.default_rng(5))
    write_csv(FOLDER / "motion.csv", signal.chunks[0])
    captions["motion.csv"] = signal.caption
    (FOLDER / "captions.json").write_text(json.dumps(captions, indent=2) + "\n")


def write_mp4(path: Path, video: Chunk, audio: Chunk) -> None:
    """H.264 and AAC; video uint8 [T, 3, H, W], audio float32 [S, 1]."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        pictures = file.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryslow"})
        pictures.width = pictures.height = SIZE
        pictures.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=RATE, layout="mono", options={"b": "48k"})
        for picture in video.data.permute(0, 2, 3, 1).numpy():
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(pictures.encode(None))
        samples = audio.data.numpy().T.copy()
        for start in range(0, samples.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))


def write_wav(path: Path, audio: Chunk) -> None:
    """16-bit PCM, mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((audio.data[:, 0].numpy() * 32767).astype("<i2").tobytes())


def write_ply(path: Path, points: Chunk) -> None:
    """Binary PLY: x y z float, red green blue uchar."""
    row = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows = np.empty(len(points.data), row)
    rows["xyz"] = points.data[:, :3].numpy()
    rows["rgb"] = np.rint(points.data[:, 3:6].numpy() * 255)
    names = [f"property float {c}" for c in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *names, "end_header", ""]
    path.write_bytes("\n".join(header).encode() + rows.tobytes())


def write_csv(path: Path, signal: Chunk) -> None:
    """A header, then time in seconds and one column a channel."""
    rate = len(signal.data) / (signal.end - signal.start)
    lines = ["time," + ",".join(f"channel{i}" for i in range(signal.data.shape[1]))]
    for i, row in enumerate(signal.data.tolist()):
        lines.append(f"{i / rate:.3f}," + ",".join(f"{value:.4f}" for value in row))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
