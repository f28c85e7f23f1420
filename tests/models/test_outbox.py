"""Events wait in order, bounded; what was not dealt with is in the state."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import MediaError
from mmworld.models.events import Answer, Count, Event, Failure, event
from mmworld.models.outbox import ROOM, Outbox
from mmworld.types import Caption, Gap

EVENTS: list[Event] = [
    Caption("a dog", 0.0, 1.0, -0.5, "a.mp4"),
    Gap(1.0, 2.0, "video", "outage", "cam"),
    Answer("what?", "a dog", 1.0, -1.0),
    Failure("cam", MediaError("network", "cam: gone", hint="plug it in")),
    Caption("a cat", 2.0, 3.0),
]


def told(e: Event) -> str:
    return str(e.error) if isinstance(e, Failure) else repr(e)


@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.data())
def test_what_was_dealt_with_and_what_was_not_make_up_the_whole(events: list[Event], data: st.DataObject) -> None:
    """Read up to any event and killed there: the state has the rest, the one that was being dealt with first."""
    box, seen = Outbox(Count()), []
    for e in events:
        box.put(e)
    box.put(None)
    stop = data.draw(st.integers(0, len(events)))
    reader = iter(box)
    for _ in range(stop):
        seen.append(next(reader))
    state = box.leaves()
    dealt = [e for e in events[: max(stop - 1, 0)] if not isinstance(e, Answer)]
    assert state["events"] == len(dealt)
    assert state["captions"] == sum(isinstance(e, Caption) for e in dealt)
    again = Outbox(Count(state["events"], state["captions"]), map(event, state["untold"]))
    again.put(None)
    rest = [e for e in events[max(stop - 1, 0) :] if not isinstance(e, Answer)]
    assert [told(e) for e in again] == [told(e) for e in rest]
    assert [told(e) for e in seen] == [told(e) for e in events[:stop]]


def test_who_turns_away_has_it_again() -> None:
    box = Outbox(Count())
    for e in EVENTS:
        box.put(e)
    for _ in box:
        break
    assert next(iter(box)) is EVENTS[0]
    assert box.leaves()["events"] == 0


def test_it_is_bounded_and_an_end_stays_the_end() -> None:
    box, n = Outbox(Count()), 3 * ROOM
    writer = threading.Thread(target=lambda: [box.put(e) for e in [*[EVENTS[0]] * n, None]])
    writer.start()
    most, read = 0, 0
    for _ in box:
        most, read = max(most, len(box._items)), read + 1
    writer.join()
    assert (read, list(box)) == (n, [])
    assert most <= ROOM


def test_an_error_is_raised_where_it_came_and_close_ends_it() -> None:
    box = Outbox(Count())
    box.put(EVENTS[0])
    box.put(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        list(box)
    box = Outbox(Count())
    threading.Timer(0.1, box.close).start()
    assert list(box) == []
