"""mmworld transcribe: what is said in sounds and films, as it is found out."""

from __future__ import annotations

import argparse
from typing import Any

from mmworld.cli.caption import add_writing, written
from mmworld.cli.flags import SWITCH, count
from mmworld.cli.inputs import add_gate
from mmworld.cli.model import add_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld transcribe`."""
    parser.add_argument("input", nargs="*", metavar="INPUT", help="file, folder, pattern, data: address, - for stdin")
    group = parser.add_argument_group("what is said")
    group.add_argument("--language", metavar="L", help="name or code; without it, that of the first half minute")
    group.add_argument("--translate", **SWITCH, help="into English")
    group.add_argument("--words", **SWITCH, help="the times of each word, in json and jsonl")
    group.add_argument("--vad", metavar="FILE", help="Silero's ONNX: where nobody speaks, nothing is listened to")
    group.add_argument("--prompt", default="", metavar="TEXT", help="words that are said to have gone before")
    group.add_argument("--beams", type=count, default=1, metavar="N", help="texts that are searched side by side (1)")
    add_model(parser.add_argument_group("model"))
    parser.set_defaults(seed=0)  # of the draws, which begin anew with each window
    add_gate(parser)
    add_writing(parser)


def run(args: argparse.Namespace) -> int:
    """Transcribe every input; 0, 3 if some failed or were salvaged, 4 if all failed."""
    return written(args, transcriber, whole_folders=False)


def transcriber(model: Any, args: argparse.Namespace) -> Any:
    """What transcribes with a model, as the flags say."""
    from mmworld.models.zoo.whisper.decoding import Decoding
    from mmworld.verbs.transcribe import Transcriber

    task = "translate" if args.translate else "transcribe"
    how = Decoding(args.language, task, args.words, width=args.beams, prompt=args.prompt)
    return Transcriber(model, how, args.vad)
