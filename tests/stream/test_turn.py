"""A lock in the order of who came: one at a time, nobody passed over, and who gives up holds nobody up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmworld.stream.turn import Turn


def waiting(turn: Turn, n: int) -> None:
    while len(turn._line) < n:
        time.sleep(0.001)


def test_one_at_a_time() -> None:
    turn, inside, most = Turn(), [0], [0]

    def work(_: int) -> None:
        for _ in range(100):
            with turn:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1]


def test_in_the_order_in_which_they_came() -> None:
    turn, order = Turn(), list[int]()

    def come(i: int) -> None:
        with turn:
            order.append(i)

    with ThreadPoolExecutor(5) as pool, turn:
        for i in range(5):
            pool.submit(come, i)
            waiting(turn, i + 2)
    assert order == [0, 1, 2, 3, 4]


def test_who_passes_it_on_has_it_again_after_those_who_waited() -> None:
    turn, order = Turn(), list[str]()

    def come(name: str) -> None:
        with turn:
            order.append(name)

    with ThreadPoolExecutor(2) as pool, turn:
        turn.pass_on()  # nobody waits: it stays
        for n, name in enumerate("ab"):
            pool.submit(come, name)
            waiting(turn, n + 2)
        turn.pass_on()
        order.append("c")
    assert order == ["a", "b", "c"]


def test_who_gives_up_waiting_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, come = Turn(), threading.Event()

    def after() -> None:
        with turn:
            come.set()

    with turn:
        with monkeypatch.context() as patched:
            patched.setattr(turn._changed, "wait_for", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                turn.__enter__()
        thread = threading.Thread(target=after)
        thread.start()
        waiting(turn, 2)
    assert come.wait(5)
    thread.join()
