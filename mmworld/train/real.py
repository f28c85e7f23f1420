"""The real training sets: which tars, how a sample is decoded, and what sentence is true of it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmworld.errors import MediaError
from mmworld.media.npy import read_npz
from mmworld.train.shards import Sample
from mmworld.train.store import Decoded, Store, open_store

RATE = 16_000
SIDE = 96
SOUNDS = {
    "Dog bark": "a dog barks",
    "Rain": "rain falls",
    "Sea waves": "sea waves",
    "Baby cry": "a baby cries",
    "Clock tick": "a clock ticks",
    "Person sneeze": "a person sneezes",
    "Helicopter": "a helicopter",
    "Chainsaw": "a chainsaw",
    "Rooster": "a rooster crows",
    "Fire crackling": "a fire crackles",
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOTIONS = {
    "boxing": "a person is boxing",
    "jack": "a person is doing jumping jacks",
    "jump": "a person is jumping",
    "squats": "a person is doing squats",
    "walk": "a person is walking",
}
FOLDS = (1, 2, 3)
SPEAKERS = ("george", "jackson", "theo")


def flickr8k(data: Path, split: str = "train") -> Store:
    """Photographs uint8 [3, 96, 96] with five captions: "train", or "val" (400 of the dev split)."""
    return open_store(f"flickr8k-{split}", sorted(data.glob(f"train/flickr8k96-{split}-*.tar")), _photograph)


def flickr8k_dev(data: Path) -> Store:
    """The 200 dev photographs that scores are reported on."""
    return open_store("flickr8k-dev200", [data / "eval/flickr8k/flickr8k224-dev200.tar"], _photograph)


def esc10(data: Path, folds: Sequence[int] = FOLDS) -> Store:
    """Environmental sounds float32 [S] at 16 kHz, 80 clips a fold."""
    return open_store("esc10", [data / f"train/esc10-fold{f}.tar" for f in folds], _environmental)


def fsdd(data: Path, speakers: Sequence[str] = SPEAKERS) -> Store:
    """Spoken digits float32 [S] at 16 kHz, 500 a speaker."""
    return open_store("fsdd", [data / f"train/fsdd-{s}.tar" for s in speakers], _digit)


def radhar(data: Path, split: str = "train") -> Store:
    """Radar recordings float32 [P, 6]: seconds, x, y, z, velocity, intensity."""
    return open_store(f"radhar-{split}", [data / f"train/radhar-{split}.tar"], _radar)


def clean(caption: str) -> str:
    """Lower case, no final stop, plain spaces."""
    words = re.sub(r"[^a-z0-9'., -]", " ", caption.lower().replace(" ,", ","))
    return re.sub(r"\s+", " ", words).strip(" .,-")


def pixels(encoded: bytes, side: int = SIDE) -> np.ndarray:
    """A picture as uint8 [3, side, side], scaled without regard to its shape."""
    import torch
    from torch.nn.functional import interpolate

    from mmworld.media import gate, image

    picture = image.read(gate.open_media(encoded))
    if picture.shape[1:] != (side, side):
        scaled = interpolate(picture[None].float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
        picture = scaled[0].round().clamp(0, 255).to(torch.uint8)
    return picture.numpy()


def waveform(encoded: bytes, rate: int = RATE) -> np.ndarray:
    """A sound as float32 [S], mixed down."""
    from mmworld.media import audio, gate

    pieces = [x[:, 0].numpy() for _, x in audio.samples(gate.open_media(encoded), rate=rate, mono=True)]
    if not pieces:
        raise MediaError("empty", "no samples")
    return np.concatenate(pieces).astype(np.float32)


def _photograph(sample: Sample) -> Decoded:
    return pixels(sample["jpg"])[None], [clean(c) for c in json.loads(sample["json"])["captions"]]


def _environmental(sample: Sample) -> Decoded:
    return waveform(sample["ogg"]), [SOUNDS[sample["txt"].decode().strip()]]


def _digit(sample: Sample) -> Decoded:
    return waveform(sample["wav"]), [f"someone says {DIGITS[int(sample['cls'])]}"]


def _radar(sample: Sample) -> Decoded:
    z = read_npz(io.BytesIO(sample["npz"]), "npz")
    rows = np.column_stack([z["t"], z["xyz"], z["velocity"], z["intensity"]])
    return rows.astype(np.float32), [MOTIONS[sample["txt"].decode().strip()]]
