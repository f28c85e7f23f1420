"""Many live streams through one model: what their threads have it do at the same time is done in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mmworld.errors import MMWorldError
from mmworld.generate.decode import Generation
from mmworld.models import together
from mmworld.models.captioner import Captioner
from mmworld.models.session import Block, Session
from mmworld.nn.state import KVState
from mmworld.stream.batch import Batch
from mmworld.types import Chunk

Entering = tuple[Session, Sequence[Block]]
Asked = tuple[Sequence[KVState], str]


class Desk:
    """Where sessions of one model, each in a thread of its own, bring what they are fed."""

    def __init__(self) -> None:
        self.feed: Batch[together.Coming, None] = Batch(_fed)
        self.enter: Batch[Entering, None] = Batch(_entered)


class SharedSession(Session):
    """A session that is fed beside those others that come to the same desk."""

    def __init__(self, *args: Any, desk: Desk, **how: Any) -> None:
        super().__init__(*args, **how)
        self._desk = desk

    def feed(self, chunk: Chunk) -> None:
        self._desk.feed((self, chunk))

    def enter(self, blocks: Sequence[Block]) -> None:
        if blocks:
            self._desk.enter((self, blocks))


class SharedCaptioner(Captioner):
    """A captioner for any number of streams, each told of in a thread of its own: they are read, and spoken of, side
    by side."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.desk = Desk()
        self._asked: Batch[Asked, Sequence[Generation]] = Batch(self._answers)

    def answered(self, contexts: Sequence[KVState], prompt: str) -> Sequence[Generation]:
        return self._asked((contexts, prompt))

    def _session(self, **how: Any) -> Session:
        return SharedSession(self.world, economy=self.economy, desk=self.desk, **how)

    def _restored(self, values: Mapping[str, Any]) -> Session:
        return SharedSession.restored(self.world, values, economy=self.economy, desk=self.desk)

    def _answers(self, asked: Sequence[Asked]) -> Sequence[Sequence[Generation] | Exception]:
        """What is said of the contexts of each call; those that ask the same are asked at once."""
        alike: dict[str, list[int]] = defaultdict(list)
        for i, (_, prompt) in enumerate(asked):
            alike[prompt].append(i)
        found: dict[int, Sequence[Generation] | Exception] = {}
        for prompt, calls in alike.items():
            found |= self._answer([(i, asked[i][0]) for i in calls], prompt)
        return [found[i] for i in range(len(asked))]

    def _answer(
        self, calls: Sequence[tuple[int, Sequence[KVState]]], prompt: str
    ) -> dict[int, Sequence[Generation] | Exception]:
        try:
            made = iter(super().answered([c for _, contexts in calls for c in contexts], prompt))
            return {i: [next(made) for _ in contexts] for i, contexts in calls}
        except MMWorldError as e:
            if len(calls) == 1:
                return {calls[0][0]: e}
            return {i: one for call in calls for i, one in self._answer([call], prompt).items()}


def _fed(coming: Sequence[together.Coming]) -> list[Exception | None]:
    refused = together.feed(coming)
    return [next((e for session, e in refused if session is one), None) for one, _ in coming]


def _entered(coming: Sequence[Entering]) -> list[None]:
    together.enter(coming)
    return [None] * len(coming)
