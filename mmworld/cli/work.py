"""Captions the inputs of one command, short ones side by side, and goes on when one of them is bad."""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mmworld.cli import guard
from mmworld.cli.console import Progress, say, shown
from mmworld.cli.formats import Origin
from mmworld.cli.inputs import base, opened, span
from mmworld.cli.targets import Targets
from mmworld.cli.transcript import Transcript
from mmworld.errors import MediaError, MMWorldError, ResourceError

if TYPE_CHECKING:
    from mmworld.cli.timeline import Timeline
    from mmworld.media.gate import Media
    from mmworld.models.captioner import Captioner
    from mmworld.models.watcher import Borrowed

NANO = "nano knows a small world (rendered scenes, everyday sounds, digits, plain photographs); --model takes others"
LOST = ("truncated", "corrupt")
"""Beginnings of the warnings that say something of the input is missing from its captions."""

Job = tuple[str, Targets]
"""An input and where its captions and its picture go."""


@dataclass(eq=False)
class Entry:
    """An input that is being captioned.

    Attributes:
        source: what the captioner is given: a Media or a folder.
        known: the name that its captions and failures bear.
    """

    name: str
    source: Any
    known: str
    transcript: Transcript
    timeline: Timeline | None
    targets: Targets
    failed: bool = False

    @property
    def warnings(self) -> list[str]:
        return list(getattr(self.source, "warnings", ()))

    @property
    def whole(self) -> bool | None:
        """True if all of it was captioned, False if a part, None if nothing."""
        if self.failed:
            return False if self.transcript.captions else None
        return not any(warning.startswith(LOST) for warning in self.warnings)


def captioner(model: Any, args: argparse.Namespace) -> Captioner | Borrowed[Any]:
    """What captions with a model, as the flags say."""
    from mmworld.verbs import caption

    return caption.captioner(model, policy(args), prompt=args.prompt)


class Work:
    """What the inputs of one command share: settings, progress, and the model, loaded for the first readable input.

    Args:
        make: of the model and the settings, what speaks: its `stream_many` makes captions of sources.
    """

    def __init__(
        self, args: argparse.Namespace, *, several: bool, make: Callable[[Any, argparse.Namespace], Any] = captioner
    ) -> None:
        self.args = args
        self._make = make
        self.several = several
        self.progress = Progress(args.progress)
        self._noticed = False
        self._pending: deque[Entry] = deque()
        self._outcomes: list[bool | None] = []

    def caption(self, jobs: Sequence[Job]) -> list[bool | None]:
        """Caption every input: for each True if whole, False if in part, None if not at all.

        Raises:
            CheckpointError: the model cannot be loaded.
            ResourceError: an output cannot be written.
        """
        with self.progress, guard.last_act(self._abandon):
            drawn = any("plot" in targets for _, targets in jobs)
            for group in [[job] for job in jobs] if drawn else [jobs]:
                self._caption_group(group)
        return self._outcomes

    @cached_property
    def captioner(self) -> Any:
        """What speaks, as the flags describe."""
        import torch

        from mmworld.cli.model import chosen

        model = chosen(self.args)
        torch.manual_seed(self.args.seed)
        return self._make(model, self.args)

    @cached_property
    def origin(self) -> Origin:
        """What is recorded of the model: its name, and which weights it has."""
        from mmworld.models.zoo import find
        from mmworld.weights.shards import revision

        return Origin("", self.args.model, revision(find(self.args.model)), self.args.seed)

    def _caption_group(self, jobs: Sequence[Job]) -> None:
        """Captions come in the order of the inputs, so a caption of one ends all before it."""
        entries = self._entries(jobs)
        first = next(entries, None)
        if first is None:
            return
        limits = span(self.args) | ({"fps": self.args.fps} if "fps" in self.args else {})
        sources = (entry.source for entry in _chain(first, entries))
        tap = first.timeline.add if first.timeline else None
        try:
            for made in self.captioner.stream_many(sources, tap=tap, **limits):
                self._take(made)
        except (ResourceError, BrokenPipeError):
            raise  # what is written so far stays in its .part
        except BaseException:
            self._abandon()
            raise
        while self._pending:
            self._finish(self._pending.popleft())

    def _entries(self, jobs: Sequence[Job]) -> Iterator[Entry]:
        """Opens one input after another as the captioner asks for them; bad ones are reported here."""
        for name, targets in jobs:
            self._finish_captioned()
            try:
                source = self._open(name)
            except MediaError as e:
                self.progress.failed(shown(name), e)
                self._outcomes.append(None)
                continue
            written = {kind: path for kind, path in targets.items() if kind != "plot"}
            prefix = f"{shown(name)}: " if self.several else ""
            transcript = Transcript(written, replace(self.origin, source=name), prefix)
            timeline = _timeline() if "plot" in targets else None
            known = source if isinstance(source, str) else source.name
            entry = Entry(name, source, known, transcript, timeline, targets)
            self._pending.append(entry)
            self.progress.start(shown(name), self._end(source))
            yield entry

    def _open(self, name: str) -> Media | str:
        return name if os.path.isdir(name) else opened(name, self.args)  # --sweeps left a folder whole

    def _end(self, source: Any) -> float | None:
        return min(filter(None, (self.args.end, getattr(source, "duration", None))), default=None)

    def _take(self, made: Any) -> None:
        """A Caption or a Failure of the first pending input that has its name."""
        while len(self._pending) > 1 and self._pending[0].known != made.source:
            self._finish(self._pending.popleft())
        entry = self._pending[0]
        error: MMWorldError | None = getattr(made, "error", None)
        if error is not None:
            if not isinstance(error, MediaError):
                raise error
            entry.failed = True
            self.progress.failed(shown(entry.name), error)
            return
        if self.args.model == "nano" and not self._noticed:
            self._noticed = True
            say(NANO)
        entry.transcript.add(made)
        self.progress.at(shown(entry.name), made.end)

    def _finish_captioned(self) -> None:
        """Once another input is asked for, those with captions are done, and so are those before them."""
        while any(entry.failed or entry.transcript.captions for entry in self._pending):
            self._finish(self._pending.popleft())

    def _abandon(self) -> None:
        """Complete what has been said of the inputs that were not finished; safe from another thread."""
        for entry in list(self._pending):
            entry.transcript.finish() if entry.transcript.captions else entry.transcript.discard()

    def _finish(self, entry: Entry) -> None:
        self._outcomes.append(entry.whole)
        if entry.whole is None:
            entry.transcript.discard()
            return
        entry.transcript.finish()
        for warning in entry.warnings:
            self.progress.failed(shown(entry.name), MediaError("salvaged", warning))
        self.progress.done(shown(entry.name), len(entry.transcript.captions))
        plot = entry.targets.get("plot")
        if entry.timeline is not None and plot is not None:
            from mmworld.cli.plot import draw

            draw(entry.timeline, entry.transcript.captions, plot, title=shown(base(entry.name)))


def policy(args: argparse.Namespace) -> Any:
    """When to speak, as the flags say."""
    from mmworld.stream.policy import AtEnd, Every, OnChange, OnDemand

    if args.at_end:
        return AtEnd()
    if "on_demand" in args and args.on_demand:
        return OnDemand()
    if args.at_silence:
        from mmworld.modalities.audio.silence import AtSilence

        return AtSilence(args.at_silence)
    if args.as_trained:
        from mmworld.models.speakhead import AsTrained
        from mmworld.models.zoo import find

        return AsTrained(find(args.model))
    return OnChange() if args.on_change else Every(args.every or 5.0)


def _timeline() -> Timeline:
    from mmworld.cli.timeline import Timeline

    return Timeline()


def _chain(first: Entry, rest: Iterator[Entry]) -> Iterator[Entry]:
    yield first
    yield from rest
