"""Captions one input after another, and goes on when one of them is bad."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmworld.cli import guard
from mmworld.cli.caption import LIMITS
from mmworld.cli.console import Progress, say, shown
from mmworld.cli.formats import Origin
from mmworld.cli.inputs import base
from mmworld.cli.targets import Targets
from mmworld.cli.timeline import Timeline
from mmworld.cli.transcript import Transcript
from mmworld.errors import MediaError, ResourceError

if TYPE_CHECKING:
    from mmworld.media.gate import Media
    from mmworld.models.captioner import Captioner

NANO = "nano knows a small world (rendered scenes, everyday sounds, digits, plain photographs); --model takes others"


class Work:
    """What the inputs of one command share: settings, progress, and the model, loaded for the first readable input."""

    def __init__(self, args: argparse.Namespace, *, several: bool) -> None:
        self.args = args
        self.several = several
        self.progress = Progress(args.progress)
        self.noticed = False

    def caption(self, name: str, targets: Targets) -> bool | None:
        """Caption one input: True if whole, False if in part, None if not at all.

        Raises:
            CheckpointError: the model cannot be loaded.
            ResourceError: an output cannot be written.
        """
        try:
            media = self._open(name)
        except MediaError as e:
            self.progress.failed(shown(name), e)
            return None
        captioner, origin = self.captioner, replace(self.origin, source=name)
        plot = targets.get("plot")
        timeline = Timeline() if plot else None
        written = {kind: path for kind, path in targets.items() if kind != "plot"}
        transcript = Transcript(written, origin, prefix=f"{shown(name)}: " if self.several else "")
        with guard.last_act(transcript.finish), self.progress.input(shown(name), self._end(media)):
            whole = self._stream(captioner, media, name, transcript, timeline)
        if whole is not None and timeline is not None and plot is not None:
            from mmworld.cli.plot import draw

            draw(timeline, transcript.captions, plot, title=shown(base(name)))
        return whole

    @cached_property
    def captioner(self) -> Captioner:
        """The Captioner that the flags describe."""
        import torch

        from mmworld.models.captioner import Captioner
        from mmworld.models.load import load

        device = self.args.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ResourceError(f"--device {device}: no CUDA device is seen", hint="--device cpu; see mmworld doctor")
        if self.args.threads:
            torch.set_num_threads(self.args.threads)
        torch.manual_seed(self.args.seed)
        return Captioner(load(self.args.model, device), policy(self.args), prompt=self.args.prompt)

    @cached_property
    def origin(self) -> Origin:
        """What is recorded of the model: its name, and the beginning of the SHA-256 of its weights."""
        from mmworld.models.load import find
        from mmworld.models.world import WEIGHTS

        with open(find(self.args.model) / WEIGHTS, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Origin("", self.args.model, digest[:12], self.args.seed)

    def _open(self, name: str) -> Media:
        from mmworld.media.budget import Budget
        from mmworld.media.gate import open_media

        limits = {k: v for k in LIMITS if (v := getattr(self.args, f"limit_{k}")) is not None}
        source: Any = sys.stdin.buffer if name == "-" else name
        return open_media(
            source, allow_url=self.args.allow_url, budget=Budget(**limits), input_format=self.args.input_format
        )

    def _end(self, media: Media) -> float | None:
        return min(filter(None, (self.args.end, media.duration)), default=None)

    def _stream(
        self, captioner: Captioner, media: Media, name: str, transcript: Transcript, timeline: Timeline | None
    ) -> bool | None:
        """All captions of one input into its transcript, which is finished whatever happens, but for nothing in it."""
        span = {"start": self.args.start or 0.0, "end": self.args.end, "fps": self.args.fps}
        try:
            for caption in captioner.stream(media, **span, tap=timeline.add if timeline else None):
                self._notice()
                transcript.add(caption)
                self.progress.at(shown(name), caption.end)
        except MediaError as e:
            self.progress.failed(shown(name), e)
            if not transcript.captions:
                transcript.discard()
                return None
        except (ResourceError, BrokenPipeError):
            raise
        except BaseException:
            transcript.finish() if transcript.captions else transcript.discard()
            raise
        else:
            for warning in media.warnings:
                self.progress.failed(shown(name), MediaError("salvaged", warning))
        transcript.finish()
        self.progress.done(shown(name), len(transcript.captions))
        return not media.warnings

    def _notice(self) -> None:
        if self.args.model == "nano" and not self.noticed:
            self.noticed = True
            say(NANO)


def policy(args: argparse.Namespace) -> Any:
    """When to speak, as the flags say."""
    from mmworld.stream.policy import AtEnd, Every, OnChange

    if args.at_end:
        return AtEnd()
    return OnChange() if args.on_change else Every(args.every or 5.0)
