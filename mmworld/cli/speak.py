"""mmworld speak: a text as a sound file."""

from __future__ import annotations

import argparse
import os
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmworld.cli.flags import SWITCH, count
from mmworld.cli.model import device, settled
from mmworld.cli.transcript import replacing
from mmworld.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld speak`."""
    parser.add_argument("text", nargs="?", metavar="TEXT", help="what is said, - for standard input")
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="M", help="a SpeechT5 that speaks text: a folder, or a name on the hub")
    model.add_argument("--vocoder", metavar="M", help="its HiFi-GAN: a folder, or a name on the hub")
    model.add_argument("--voice", metavar="FILE", help="a speaker embedding: .npy or .safetensors")
    model.add_argument("--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N")
    model.add_argument("--threads", type=count, metavar="N", help="CPU threads")
    model.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn while it speaks")
    group = parser.add_argument_group("what is written")
    group.add_argument("-o", "--output", metavar="FILE", help="a .wav file")
    group.add_argument("--overwrite", **SWITCH, help="replace an output that is there")


def run(args: argparse.Namespace) -> int:
    """Say the text into a file."""
    target = _target(args)
    for name in ("model", "vocoder"):
        if getattr(args, name) is None:
            raise UsageError(f"which {name}?", hint=f"--{name} with its folder, or its name on the hub")
    text = _text(args.text)
    from mmworld.verbs.speak import Reader

    reader = Reader(args.model, args.vocoder, args.voice, device=settled(args), seed=args.seed)
    with replacing(target) as part:
        _write(part, reader.stream(text), reader.rate)
    return 0


def _target(args: argparse.Namespace) -> Path:
    if args.output is None or not args.output.lower().endswith(".wav"):
        raise UsageError("where to?" if args.output is None else f"-o {args.output!r} is no .wav", hint="-o FILE.wav")
    if os.path.lexists(args.output) and not args.overwrite:
        raise UsageError(f"{args.output} exists", hint="--overwrite replaces it")
    return Path(args.output)


def _text(given: str | None) -> str:
    """What is said; one character more than the limit is enough to know that it is too much."""
    from mmworld.verbs.speak import MAX_CHARACTERS

    text = sys.stdin.read(MAX_CHARACTERS + 1) if given == "-" else given or ""
    if not text.strip():
        raise UsageError("there is nothing to say", hint="mmworld speak TEXT, or - to read standard input")
    return text


def _write(path: Path, pieces: Iterator[Tensor], rate: int) -> None:
    """Samples in [-1, 1] as 16-bit mono."""
    with path.open("wb") as file, wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", ""))
        for piece in pieces:
            sound.writeframes((piece.clamp(-1, 1) * 32767).round().short().numpy().astype("<i2").tobytes())
