"""Streams of chunks: merged by time, joined into longer pieces, in batches, read ahead in a thread."""

from __future__ import annotations

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from queue import Full, Queue
from typing import Any, Generic, TypeVar

from mmworld.types import Chunk, Gap

T = TypeVar("T")
Timed = TypeVar("Timed", bound=Chunk | Gap)
POLL, PATIENCE = 0.1, 1.0
"""Seconds after which a blocked reader looks whether it is still wanted, and for which its end is waited for."""


def merge(*streams: Iterable[Timed]) -> Iterator[Timed]:
    """The chunks of several streams, each in order, in the order of their ends: nothing from the future comes early."""
    return heapq.merge(*streams, key=lambda c: (c.end, c.modality))


def join(chunks: Iterable[Timed], seconds: float, modalities: Collection[str]) -> Iterator[Timed]:
    """The same streams in fewer chunks: those of the named modalities joined until `seconds` long, none across a gap;
    others pass.

    Only for modalities whose rows come at a fixed rate, where two chunks make one by standing one after the other.
    """
    held: dict[str, list[Chunk]] = defaultdict(list)
    try:
        for chunk in chunks:
            if isinstance(chunk, Gap) and chunk.modality in held:
                yield _joined(held.pop(chunk.modality))
            if isinstance(chunk, Gap) or chunk.modality not in modalities:
                yield chunk
                continue
            mine = held[chunk.modality]
            mine.append(chunk)
            if chunk.last or chunk.end - mine[0].start >= seconds - 1e-6:
                yield _joined(held.pop(chunk.modality))
    except Exception:  # comes after what came before it
        yield from map(_joined, held.values())
        raise
    yield from map(_joined, held.values())


def _joined(chunks: list[Any]) -> Any:
    """Chunks of one stream as one."""
    import torch

    full = [c.data for c in chunks if len(c.data)] or [chunks[0].data]
    return replace(chunks[-1], data=torch.cat(full) if len(full) > 1 else full[0], start=chunks[0].start)


def batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """The items in lists of 1, 2, 4 and so on up to `most`: the first comes at once, later ones save work together.

    An error in the making comes after the items before it.
    """
    held: list[T] = []
    size = 1
    try:
        for item in items:
            held.append(item)
            if len(held) == size:
                yield held
                held, size = [], min(2 * size, most)
    except Exception:
        if held:
            yield held
        raise
    if held:
        yield held


def prefetch(items: Iterable[T], depth: int = 16) -> Generator[T, None, None]:
    """The same items, made in a thread up to `depth` ahead. An error in the making comes out in its place.

    Closing the iterator closes `items` in their thread.
    """
    queue: Queue[_Made[T]] = Queue(depth)
    wanted = threading.Event()
    wanted.set()
    thread = threading.Thread(target=_fill, args=(iter(items), queue, wanted), daemon=True, name="prefetch")
    thread.start()
    try:
        while (made := queue.get()).error is None:
            yield from made.item
        if not isinstance(made.error, StopIteration):
            raise made.error
    finally:
        wanted.clear()
        thread.join(PATIENCE)  # a reader that hangs in a device is left behind


@dataclass(frozen=True)
class _Made(Generic[T]):
    """One item, or the error that ended them: StopIteration where all is well."""

    item: tuple[T, ...] = ()
    error: BaseException | None = None


def _fill(items: Iterator[T], queue: Queue[_Made[T]], wanted: threading.Event) -> None:
    try:
        for item in items:
            if not _put(queue, _Made((item,)), wanted):
                break
        else:
            _put(queue, _Made(error=StopIteration()), wanted)
    except BaseException as e:
        _put(queue, _Made(error=e), wanted)
    finally:
        if isinstance(items, Generator):
            items.close()


def _put(queue: Queue[_Made[T]], made: _Made[T], wanted: threading.Event) -> bool:
    """Wait for room as long as the item is wanted; False when it is no more."""
    while wanted.is_set():
        try:
            queue.put(made, timeout=POLL)
        except Full:
            continue
        return True
    return False


def paced(
    items: Iterable[Timed],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[Timed]:
    """What a file gives, no earlier than a camera would give it: each once its end has passed."""
    begun: float | None = None
    for item in items:
        begun = clock() - item.start if begun is None else begun
        if (ahead := begun + item.end - clock()) > 0:
            sleep(ahead)
        yield item
