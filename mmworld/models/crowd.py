"""Several live streams, read as one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from mmworld.models.events import Answer, Event, Stall
from mmworld.models.live import Live
from mmworld.models.outbox import POLL
from mmworld.stream.intake import Lane


class Crowd:
    """Iterates over (live, event) of live streams as they come, until each of them has ended; of one stream in its
    order. An event is dealt with when its reader comes for the next one, as with a `Live` alone.

    Args:
        lives: none of them read elsewhere; closed with this.
    """

    def __init__(self, lives: Sequence[Live]) -> None:
        self.lives = tuple(lives)
        self._changed = threading.Condition()
        self._come: deque[tuple[Live, Event | BaseException | None]] = deque()  # at most one of each
        self._dealt: dict[Live, threading.Event] = {live: threading.Event() for live in self.lives}
        for live in self.lives:
            threading.Thread(target=self._read, args=(live,), daemon=True, name="read events").start()

    def __iter__(self) -> Iterator[tuple[Live, Event]]:
        """What happens; an error that is not a source's own is raised."""
        going = len(self.lives)
        while going:
            with self._changed:
                while not self._come:
                    self._changed.wait(POLL)
                live, event = self._come.popleft()
            if isinstance(event, BaseException):
                raise event
            going -= event is None
            if event is not None:
                yield live, event
                self._dealt[live].set()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: str) -> list[Future[Answer]]:
        """Ask each stream; see `Live.ask`."""
        return [live.ask(question) for live in self.lives]

    @property
    def lanes(self) -> list[Lane]:
        """The sources of all of them."""
        return [lane for live in self.lives for lane in live.lanes]

    @property
    def nbytes(self) -> int:
        """Bytes of tensors that are held of what has been perceived."""
        return sum(live.nbytes for live in self.lives)

    @property
    def captions(self) -> int:
        """How many were made, before they were resumed and since."""
        return sum(live.captions for live in self.lives)

    @property
    def unsaid(self) -> int:
        """Segments of which nothing was said, as the speaking was too slow."""
        return sum(live.unsaid for live in self.lives)

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """What hangs now."""
        return tuple(stall for live in self.lives for stall in live.stalls)

    @property
    def tokens(self) -> dict[str, tuple[int, int]]:
        """Of each modality how many tokens were made, and how many of them went on."""
        found: dict[str, tuple[int, int]] = {}
        for live in self.lives:
            for name, (made, kept) in live.tokens.items():
                before = found.get(name, (0, 0))
                found[name] = before[0] + made, before[1] + kept
        return found

    def delay(self, part: float) -> float:
        """Seconds within which this part of the captions came, see `Live.delay`; of the stream that is latest."""
        return max(live.delay(part) for live in self.lives)

    def close(self) -> None:
        """Stop them all; what waits is given up."""
        for live in self.lives:
            live.close()
            self._dealt[live].set()

    def _read(self, live: Live) -> None:
        try:
            for event in live:
                self._dealt[live].clear()
                self._add(live, event)
                self._dealt[live].wait()
            self._add(live, None)
        except BaseException as e:
            self._add(live, e)

    def _add(self, live: Live, event: Event | BaseException | None) -> None:
        with self._changed:
            self._come.append((live, event))
            self._changed.notify()
