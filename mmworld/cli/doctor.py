"""mmworld doctor: one line a fact about this machine, and the fix where something is missing."""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmworld.cli.console import SCHEMA_VERSION

CODECS = ("h264", "hevc", "av1", "vp9", "aac", "opus", "mp3", "flac")
LIBRARIES = {"usb-1.0": "libusb-1.0-0", "GL": "libgl1", "X11": "libx11-6", "gomp": "libgomp1"}
"""What Open3D loads, and the Debian package it is in."""


@dataclass(frozen=True)
class Fact:
    """One finding.

    Attributes:
        ok: whether it is as it should be.
        needed: whether captioning needs it.
        fix: what mends it, or "".
    """

    name: str
    value: str
    ok: bool = True
    needed: bool = False
    fix: str = ""

    def __str__(self) -> str:
        mark = "ok" if self.ok else "!!" if self.needed else "--"
        return f"{mark}  {self.name:<18} {self.value}" + (f"  (fix: {self.fix})" if self.fix else "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld doctor`."""
    parser.add_argument("--json", action="store_true", help="one JSON document")


def run(args: argparse.Namespace) -> int:
    """Print every fact; 0 if captioning works, else 1."""
    facts = []
    for fact in examine():
        facts.append(fact)
        if not args.json:
            print(fact, flush=True)
    works = all(fact.ok for fact in facts if fact.needed)
    if args.json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "works": works, "facts": [asdict(f) for f in facts]}))
    return 0 if works else 1


def examine() -> Iterator[Fact]:
    """Every fact, in order; a probe that fails is a fact too."""
    for probe in (_python, _torch, _device, _attention, _av, _codecs, _libraries, _extras, _model, _cache, _offline):
        try:
            yield from probe()
        except Exception as e:
            yield Fact(
                probe.__name__.strip("_"), f"{type(e).__name__}: {e}", False, probe in NEEDED, "reinstall mmworld"
            )


def _python() -> Iterator[Fact]:
    here = sys.version_info >= (3, 11)
    yield Fact("python", sys.version.split()[0], here, True, "" if here else "install Python 3.11 or later")
    yield Fact("mmworld", f"{version('mmworld')} in {Path(__file__).parents[1]}")


def _torch() -> Iterator[Fact]:
    yield _imported("torch", needed=True, fix="pip install 'torch>=2.11,<2.15'")
    yield _imported("torchaudio", needed=True, fix="pip install 'torchaudio>=2.11', of the same build as torch")


def _device() -> Iterator[Fact]:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Fact("device", f"cuda, {torch.cuda.get_device_name()}, {free >> 30} of {total >> 30} GiB free")
    else:
        yield Fact("device", f"cpu, {torch.get_num_threads()} threads; no CUDA device is seen")


def _attention() -> Iterator[Fact]:
    import torch

    from mmworld.attention import backends, why_not

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.zeros(1, 2, 1, 16, device=device)
    for name in backends:
        reasons = why_not(name, x, x, x)
        yield Fact(f"attention {name}", "; ".join(reasons) or f"works on {device}", not reasons)


def _av() -> Iterator[Fact]:
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Fact("av", f"{av.__version__}, libavcodec {codec}", needed=True)


def _codecs() -> Iterator[Fact]:
    from av.codec import Codec

    found, missing = [], []
    for name in CODECS:
        try:
            Codec(name, "r")
            found.append(name)
        except ValueError:
            missing.append(name)
    text = "reads " + " ".join(found) + (f"; not {' '.join(missing)}" if missing else "")
    yield Fact("codecs", text, not missing, "h264" in missing, "pip install --force-reinstall av" if missing else "")


def _libraries() -> Iterator[Fact]:
    missing = [package for name, package in LIBRARIES.items() if not _loads(name)] if sys.platform == "linux" else []
    fix = f"apt-get install {' '.join(missing)}" if missing else ""
    yield Fact("system libraries", f"lack {' '.join(missing)}" if missing else "present", not missing, fix=fix)
    yield _imported("open3d", fix=fix or "pip install open3d; without it meshes are not sampled")


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(ctypes.util.find_library(name) or f"lib{name}.so.0")
    except OSError:
        return False
    return True


def _extras() -> Iterator[Fact]:
    yield _installed("decord", "decord", "sparse reading on request")
    yield _installed("xformers", "gpu", "attention on CUDA")
    yield _installed("torchao", "quantise", "weights of int8 and int4")
    yield _installed("lightning", "train", "mmworld train")
    yield _installed("llguidance", "grammar", "an answer in JSON by a schema")
    yield _installed("rerun-sdk", "rerun", "mmworld watch --rerun")
    yield _installed("websockets", "websocket", "ws: and wss: streams")
    found = shutil.which("espeak-ng")
    yield Fact(
        "espeak-ng",
        found or "absent; only synthetic speech for training wants it",
        fix="" if found else "apt-get install espeak-ng",
    )


def _model() -> Iterator[Fact]:
    from mmworld.models.load import load

    world = load("nano")
    count = sum(p.numel() for p in world.parameters())
    yield Fact("model nano", f"{count / 1e6:.1f} M parameters, loads", needed=True)


def _cache() -> Iterator[Fact]:
    from mmworld.train.store import cache_folder

    folder = cache_folder()
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    writable = os.access(standing, os.W_OK)
    state = "writable" if writable else "read-only"
    yield Fact("cache", f"{folder}, {state}", writable, fix="" if writable else "set MMWORLD_CACHE")


def _offline() -> Iterator[Fact]:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    yield Fact("offline", "yes, by HF_HUB_OFFLINE" if offline else "no; --offline or HF_HUB_OFFLINE=1 opens no socket")


def _imported(name: str, *, needed: bool = False, fix: str = "") -> Fact:
    try:
        module = importlib.import_module(name)
    except Exception as e:
        return Fact(
            name, f"does not load: {str(e).splitlines()[0] if str(e) else type(e).__name__}", False, needed, fix
        )
    return Fact(name, getattr(module, "__version__", "present"), needed=needed)


def _installed(name: str, extra: str, use: str) -> Fact:
    try:
        return Fact(name, version(name))
    except PackageNotFoundError:
        return Fact(name, f"absent; {use} wants it", False, fix=f"pip install 'mmworld[{extra}]'")


NEEDED: tuple[Callable[[], Iterator[Fact]], ...] = (_python, _torch, _av, _codecs, _model)
