"""Streams in threads of their own that share one model: each says what it would say alone, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_captioner import WORLD, captioner, same
from test_live import opened
from toy import TOYS, cut, stream

from mmworld.errors import UsageError
from mmworld.models.captioner import Captioner
from mmworld.models.crowd import Crowd
from mmworld.models.events import Failure
from mmworld.models.keep import Keep
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.shared import SharedCaptioner
from mmworld.stream.policy import Every
from mmworld.types import Caption, Chunk

SENSES = tuple(sorted(TOYS))


def shared(seconds: float, keep: Keep | None) -> tuple[Captioner, Captioner]:
    stop = captioner(Every(seconds)).stop
    return tuple(kind(WORLD, Every(seconds), stop=stop, keep=keep) for kind in (Captioner, SharedCaptioner))  # type: ignore[return-value]


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_each_says_what_it_says_alone(data: st.DataObject) -> None:
    keep = data.draw(st.none() | st.just(Keep(1.0)))
    alone, beside = shared(data.draw(st.sampled_from([0.5, 1.1])), keep)
    wholes = [
        [stream(n, data.draw(st.floats(0.3, 3)), seed=data.draw(st.integers(0, 9))) for n in names]
        for names in data.draw(st.lists(st.sets(st.sampled_from(SENSES), min_size=1), min_size=2, max_size=4))
    ]
    want = [alone.caption(opened(*sorted(w, key=lambda c: c.end))) for w in wholes]
    sizes = st.lists(st.integers(1, 20), max_size=6)
    sources = [[opened(*cut(c, data.draw(sizes)), name="toy") for c in whole] for whole in wholes]
    said: dict[Live, list[Caption]] = {}
    with Crowd([Live(beside, s) for s in sources]) as crowd:
        for live, event in crowd:
            assert isinstance(event, Caption)
            said.setdefault(live, []).append(event)
        assert all(same(said.get(live, []), w) for live, w in zip(crowd.lives, want, strict=True))


def test_they_do_go_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one stream is read, two others come: these are read in one pass."""
    from mmworld.models import shared as module

    sizes: list[int] = []
    here, go = threading.Semaphore(0), threading.Event()
    fed = module.together.feed

    def slow(coming: list) -> list:
        sizes.append(len(coming))
        here.release()
        assert go.wait(5)
        return fed(coming)

    monkeypatch.setattr(module.together, "feed", slow)
    teller = SharedCaptioner(WORLD, Every(9.0))
    whole = stream("video", 1.0)
    with ThreadPoolExecutor(3) as pool:
        cuttings = [teller.begin(["video"]) for _ in range(3)]
        done = [pool.submit(lambda c: list(c.take(whole)), cuttings[0])]
        assert here.acquire(timeout=5)
        done += [pool.submit(lambda c: list(c.take(whole)), c) for c in cuttings[1:]]
        while teller.desk.feed.waiting < 2:
            pass
        go.set()
        assert [len(d.result(5)) for d in done] == [1, 1, 1]
    assert sizes == [1, 2]


def test_a_source_that_fails_and_one_that_is_saved_change_nothing_of_the_others(tmp_path: Path) -> None:
    alone, beside = shared(0.5, None)
    whole = stream("video", 3.0, seed=4)
    want = alone.caption(opened(whole))

    def broken() -> Iterator[Chunk]:
        yield from cut(stream("video", 2.0, seed=1), [8])[:1]
        raise OSError(5, "gone")

    def crowd(resume: Path | None = None) -> Crowd:
        good = opened(*cut(whole, [4] * 8), live=True)
        lives = [Live(beside, [Opened("bad", ("video",), broken(), live=True)])]
        return Crowd([*lives, Live(beside, [good], pressure="block", resume=resume)])

    with crowd() as first:
        said = []
        for live, event in first:
            if live is first.lives[1]:
                said.append(event)
            if len(said) == 3:
                live.save(tmp_path / "a").result(5)
                break
    with crowd(tmp_path / "a") as second:
        after = list(second)
    assert second.lives[1].before.captions == 2  # the third was still being dealt with
    assert same([e for live, e in after if live is second.lives[1]], want[2:])  # type: ignore[arg-type]
    assert sum(isinstance(e, Failure) for _, e in after) == 1


def test_of_those_that_are_asked_together_one_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmworld.models import captioner as module

    teller = SharedCaptioner(WORLD, Every(9.0), stop=captioner(Every(9.0)).stop)
    contexts = [teller.begin(["video"]).now().context for _ in range(3)]
    answer = module.answer

    def picky(world: object, some: list, *how: object) -> object:
        if any(c is contexts[1] for c in some):
            raise UsageError("not that one")
        return answer(world, some, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "answer", picky)
    made = teller._answers([([c], "two dogs") for c in contexts])
    alone = answer(WORLD, [contexts[0]], "two dogs", stop=teller.stop)
    assert [made[0], made[2]] == [alone, alone]
    assert isinstance(made[1], UsageError)
