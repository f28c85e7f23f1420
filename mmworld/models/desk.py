"""Many live streams through one model: what their threads have it do at the same time goes through it in one pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

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
from mmworld.types import Chunk

Entering = tuple[Session, Sequence[Block]]
How = tuple[str, Sampler | Beam, Stop]
"""What is asked, and how it is answered."""
Asked = tuple[How, Sequence[KVState]]
_desks: WeakKeyDictionary[World, Desk] = WeakKeyDictionary()
_lock = threading.Lock()


class Desk:
    """Where the streams of one model bring what they are fed and asked, each from a thread of its own."""

    def __init__(self) -> None:
        self.feed: Batch[together.Coming, None] = Batch(_fed)
        self.enter: Batch[Entering, None] = Batch(_entered)
        self.answer: Batch[tuple[World, Asked], Sequence[Generation]] = Batch(_answered)


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
    return desk(world).answer((world, ((prompt, sampler, stop), contexts)))


def _fed(coming: Sequence[together.Coming]) -> list[Exception | None]:
    refused = together.feed(coming)
    return [next((e for session, e in refused if session is one), None) for one, _ in coming]


def _entered(coming: Sequence[Entering]) -> list[None]:
    together.enter(coming)
    return [None] * len(coming)


def _answered(asked: Sequence[tuple[World, Asked]]) -> list[Sequence[Generation] | Exception]:
    """What is said of the contexts of each call; those that are asked the same in the same way are asked at once."""
    found: dict[int, Sequence[Generation] | Exception] = {}
    while rest := [i for i in range(len(asked)) if i not in found]:
        world, (how, _) = asked[rest[0]]
        found |= _answers(world, how, [(i, asked[i][1][1]) for i in rest if asked[i][1][0] == how])
    return [found[i] for i in range(len(asked))]


def _answers(
    world: World, how: How, calls: Sequence[tuple[int, Sequence[KVState]]]
) -> dict[int, Sequence[Generation] | Exception]:
    try:
        made = iter(answer(world, [c for _, contexts in calls for c in contexts], *how))
        return {i: [next(made) for _ in contexts] for i, contexts in calls}
    except MMWorldError as e:
        if len(calls) == 1:
            return {calls[0][0]: e}
        return {i: one for call in calls for i, one in _answers(world, how, [call]).items()}
