"""Many live streams through one model: what their threads have it do at the same time goes through it in one pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from mmworld.errors import MMWorldError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import Generation, answer
from mmworld.generate.samplers import Sampler
from mmworld.generate.stop import Stop
from mmworld.models import together
from mmworld.models.session import Block, Session
from mmworld.models.world import World
from mmworld.nn.state import KVState
from mmworld.stream.batch import Batch
from mmworld.stream.turn import Turn
from mmworld.types import Chunk

Entering = tuple[Session, Sequence[Block]]
How = tuple[str, Sampler | Beam, Stop]
"""What is asked, and how it is answered."""
Asked = tuple[World, How, Sequence[KVState]]
Answers = Sequence[Generation] | Exception
_desks: WeakKeyDictionary[World, Desk] = WeakKeyDictionary()
_lock = threading.Lock()


class Desk:
    """Where the streams of one model bring what they are fed and asked, each from a thread of its own. The model does
    one thing at a time; what is said gives way at each of its ids, so that no stream waits for a whole text."""

    def __init__(self) -> None:
        self._turn = Turn()
        self.feed: Batch[together.Coming, None] = Batch(self._fed)
        self.enter: Batch[Entering, None] = Batch(self._entered)
        self.answer: Batch[Asked, Sequence[Generation]] = Batch(self._answered)

    def _fed(self, coming: Sequence[together.Coming]) -> list[Exception | None]:
        with self._turn:
            refused = together.feed(coming)
        return [next((e for session, e in refused if session is one), None) for one, _ in coming]

    def _entered(self, coming: Sequence[Entering]) -> list[None]:
        with self._turn:
            together.enter(coming)
        return [None] * len(coming)

    def _answered(self, asked: Sequence[Asked]) -> list[Answers]:
        """What is said of the contexts of each call; those that are asked alike are asked at once."""
        found: dict[int, Answers] = {}
        while rest := [i for i in range(len(asked)) if i not in found]:
            world, how, _ = asked[rest[0]]
            with self._turn:
                calls = [(i, asked[i][2]) for i in rest if asked[i][1] == how]
                found |= _answers(_InTurn(world, self._turn), how, calls)
        return [found[i] for i in range(len(asked))]


class _InTurn:
    """A world that is read while others wait: they go first."""

    def __init__(self, world: World, turn: Turn) -> None:
        self.tokenizer, self.prompt = world.tokenizer, world.prompt
        self._world, self._turn = world, turn

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        self._turn.pass_on()
        return self._world.read(ids, state)


def desk(world: World) -> Desk:
    """The one of this model."""
    with _lock:
        return _desks.setdefault(world, Desk())


class LiveSession(Session):
    """A session that is fed from a thread of its own, beside others of its model."""

    def feed(self, chunk: Chunk) -> None:
        desk(self.world).feed((self, chunk))

    def enter(self, blocks: Sequence[Block]) -> None:
        if blocks:
            desk(self.world).enter((self, blocks))


def answered(
    world: World, contexts: Sequence[KVState], prompt: str, sampler: Sampler | Beam, stop: Stop
) -> Sequence[Generation]:
    """As `decode.answer`, beside what other threads ask."""
    return desk(world).answer((world, (prompt, sampler, stop), contexts))


def _answers(model: Any, how: How, calls: Sequence[tuple[int, Sequence[KVState]]]) -> dict[int, Answers]:
    try:
        made = iter(answer(model, [c for _, contexts in calls for c in contexts], *how))
        return {i: [next(made) for _ in contexts] for i, contexts in calls}
    except MMWorldError as e:
        if len(calls) == 1:
            return {calls[0][0]: e}
        return {i: one for call in calls for i, one in _answers(model, how, [call]).items()}
