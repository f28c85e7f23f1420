"""The model that a verb works with: its flags, and the model that they name."""

from __future__ import annotations

import argparse
import re
from typing import Any

from mmworld.cli.flags import count
from mmworld.errors import ResourceError, UsageError

DTYPES, QUANTISED = ("float32", "bfloat16", "float16"), ("int8", "int4")


def add_model(parser: Any, default: str | None = None) -> None:
    """The flags that say which model, and where it runs."""
    named = f"a name from `mmworld models`, a folder, or a name on the hub{f' ({default})' if default else ''}"
    parser.add_argument("--model", default=default, metavar="M", help=named)
    parser.add_argument("--device", type=device, default="auto", metavar="D", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of a borrowed model's weights (float32)")
    parser.add_argument("--quantise", choices=QUANTISED, help="round a borrowed model's linear layers as they are read")
    parser.add_argument("--threads", type=count, metavar="N", help="CPU threads")


def chosen(args: argparse.Namespace) -> Any:
    """The model that the flags name, loaded.

    Raises:
        UsageError: none is named, or it cannot be quantised so.
        CheckpointError: there is no such model.
        ResourceError: the device is not there.
    """
    import torch

    from mmworld.verbs.model import loaded

    require(args)
    return loaded(args.model, settled(args), getattr(torch, args.dtype), args.quantise)


def settled(args: argparse.Namespace) -> str:
    """The device that the flags ask for, once the threads are as they say; ResourceError if it is not there."""
    import torch

    device: str = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError(f"--device {device}: no CUDA device is seen", hint="--device cpu; see mmworld doctor")
    if args.threads:
        torch.set_num_threads(args.threads)
    return device


def require(args: argparse.Namespace) -> None:
    """UsageError if no model is named."""
    if args.model is None:
        raise UsageError("which model?", hint="--model with a folder or a name on the hub; see mmworld models")


def device(text: str) -> str:
    """A device that torch may have."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda or cuda:N")
    return text
