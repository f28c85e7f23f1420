"""Captions of a stream by a borrowed model that remembers: it sees each frame once, as it comes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, after
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.stop import STOP, Stop
from mmworld.models import pieces, snapshot
from mmworld.models.captioner import DEFAULT
from mmworld.models.keep import Keep
from mmworld.models.message import Follower
from mmworld.models.scenes import Scene, Scenes
from mmworld.models.talk import Talk, tell
from mmworld.models.watcher import Borrowed
from mmworld.nn.rolling import Rolling
from mmworld.stream.policy import TICK, Policy
from mmworld.types import Caption, Chunk, Gap, Takes


@dataclass(frozen=True, eq=False)
class Turn:
    """[start, end) seconds, and what was said at their end; or, of one that goes on, what is remembered by then."""

    start: float
    end: float
    said: Generation | None = None
    talk: Talk | None = None
    final: bool = True

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.talk is not None and not self.talk.seen


class Turns:
    """Takes the chunks of a film, gives turns that tile the time as `Scenes` does. What is said at the end of one is
    part of what the next is told of, so it is said here, and what comes meanwhile waits where it comes from.

    A frame is seen with its neighbours, as many together as the model takes, never across a gap or the end of a turn:
    the last of those that are fewer stands for what is missing. So no pieces change what is seen.

    Args:
        talk: with the model.
        scenes: says where turns end; fresh.
        speak: what is said of a talk, if anything.
    """

    def __init__(self, talk: Talk, scenes: Scenes, speak: Callable[[Talk], Generation]) -> None:
        self._talk, self._scenes, self._speak = talk, scenes, speak
        self._waiting: list[Chunk] = []  # only while chunks are taken
        self._together: list[Chunk] = []

    @property
    def provisional(self) -> float:
        """As of `Scenes`: never."""
        return self._scenes.provisional

    @provisional.setter
    def provisional(self, seconds: float) -> None:
        self._scenes.provisional = seconds

    @property
    def clock(self) -> float:
        """Seconds up to which the stream has been received."""
        return self._scenes.clock

    @property
    def open(self) -> frozenset[str]:
        """The streams of which chunks may still come."""
        return self._scenes.open

    @property
    def nbytes(self) -> int:
        """Bytes of tensors held."""
        return self._talk.nbytes + self._scenes.nbytes + sum(f.data.nbytes for f in self._together)

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of none: all that is seen is kept."""
        return {}

    def take(self, item: Chunk | Gap) -> Iterator[Turn]:
        """The turns that the next chunk ends, or the next gap. Raises as `Scenes.take`."""
        if isinstance(item, Gap):
            self._see()
        elif len(item.data):
            self._waiting += pieces.frames(item)
        yield from map(self._told, self._scenes.take(item))
        self._show(math.inf)

    def close(self, name: str) -> Iterator[Turn]:
        """The turns that end as the stream `name` does."""
        yield from map(self._told, self._scenes.close(name))

    def finish(self) -> Iterator[Turn]:
        """The turn of the rest."""
        yield from map(self._told, self._scenes.finish())

    def now(self) -> Turn:
        """What is remembered so far; what goes on does not change it."""
        so_far, talk = self._scenes.now(), self._talk.fork()
        if self._together:
            talk.show(self._together)
        return Turn(so_far.start, so_far.end, talk=talk, final=False)

    def leaves(self) -> dict[str, Any]:
        """All that is remembered, by name."""
        own = self._scenes.leaves() | pieces.leaves(self._together, "together")
        return own | snapshot.leaves(self._talk.context, "context")

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on with what `leaves` gave of the frames that wait for others."""
        self._together = pieces.restored(values, "together")

    def _told(self, scene: Scene) -> Turn:
        self._show(scene.end)
        self._see()
        said = self._speak(self._talk)
        return Turn(scene.start, scene.end, said)

    def _show(self, end: float) -> None:
        """The frames that begin before `end`."""
        while self._waiting and self._waiting[0].start < end - TICK:
            frame = self._waiting.pop(0)
            self._together.append(replace(frame, data=frame.data.clone()))  # not a view of the whole chunk
            if len(self._together) == self._talk.model.together:
                self._see()

    def _see(self) -> None:
        if self._together:
            self._talk.show(self._together)
            self._together = []


class RollingWatcher(Borrowed[Turn]):
    """Says what comes in, as `Watcher` does, and remembers what it saw and said: nothing is read twice.

    Args:
        model: borrowed, that can be told of a film as it comes.
        policy: when to speak.
        sampler, stop: how.
        prompt: how each caption begins.
        keep: what is remembered. Sinks are the ids with which the model's chat begins, however many.
    """

    model: Follower

    def __init__(
        self,
        model: Follower,
        policy: Policy = DEFAULT,
        sampler: Sampler | Beam = GREEDY,
        prompt: str = "",
        stop: Stop = STOP,
        keep: Keep | None = None,
    ) -> None:
        super().__init__(model, policy, sampler, prompt, stop)
        self.keep = keep or Keep()

    @property
    def identity(self) -> str:
        """What a saved stream goes on with: keys and values are of one model, in one precision."""
        dtype = self.model.language.embedding.weight.dtype
        return f"{super().identity} {self.keep} {dtype} {json.dumps(self.model.source, sort_keys=True)}"

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Turns:
        """What cuts a fresh stream of these modalities, that begins at `start` seconds, into turns."""
        scenes = Scenes(self._cut, modalities, self.policy.start(start))
        return Turns(Talk(self.model, self.keep), scenes, self._speak)

    def restored(self, values: Mapping[str, Any], start: float = 0.0) -> Turns:
        """What goes on with the stream whose `Turns.leaves` these are."""
        scenes = Scenes.restored(self._cut, self.policy.start(start), values)
        device = self.model.language.embedding.weight.device
        state = {n: x for n, x in values.items() if n.startswith("context.state.")}
        context = snapshot.restore(Rolling(()), {**values, **snapshot.on(state, device)}, "context")
        turns = Turns(Talk(self.model, self.keep, context), scenes, self._speak)
        turns.restore(values)
        return turns

    def say(self, segments: Sequence[Turn], source: str) -> Iterator[Caption]:
        """The captions of turns, which have been said already."""
        for turn in segments:
            if turn.said is not None and turn.said.text:
                yield Caption(self._whole(turn.said), turn.start, turn.end, turn.said.score, source)

    def answer(self, segment: Turn, question: str) -> Generation:
        """What the model says of what it remembers in a turn that goes on, asked."""
        assert segment.talk is not None
        return tell([segment.talk], question, "", self.sampler, self.stop)[0]

    def _speak(self, talk: Talk) -> Generation:
        (said,) = tell([talk], begun=self.prompt, sampler=self.sampler, stop=self.stop)
        if said.text:
            talk.commit(self._whole(said))
        return said

    def _whole(self, said: Generation) -> str:
        return after(self.prompt, said.text)

    @property
    def _cut(self) -> Takes:
        """What `Scenes` holds to cut the time: a frame."""
        return replace(self.model.takes, frames=1)

    def rate(self) -> float:
        """Frames a second: a glimpse each second."""
        return float(self.model.together)
