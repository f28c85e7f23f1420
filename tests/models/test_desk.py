"""Streams in threads of their own that share one model: each says what it would say alone, whatever the others do."""

from __future__ import annotations

import threading
import time
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
from mmworld.generate.samplers import GREEDY
from mmworld.models.captioner import Captioner
from mmworld.models.crowd import Crowd
from mmworld.models.events import Answer, Failure
from mmworld.models.keep import Keep
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.segments import Segments
from mmworld.models.session import Session
from mmworld.stream.policy import Every
from mmworld.types import Caption, Chunk

STOP = captioner(Every(9.0)).stop
SENSES = tuple(sorted(TOYS))


def alone(policy: Every, keep: Keep | None, whole: list[Chunk]) -> list[Caption]:
    """What is said of a stream by sessions that are fed by themselves."""
    teller = Captioner(WORLD, policy, stop=STOP, keep=keep)
    session = Session(WORLD, modalities=[c.modality for c in whole], keep=keep)
    segments = Segments(session, policy.start(0.0), rolling=keep is not None)
    found = [s for c in sorted(whole, key=lambda c: c.end) for s in segments.take(c)]
    return [c for s in [*found, *segments.finish()] for c in teller.say([s], "toy")]


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_each_says_what_it_says_alone(data: st.DataObject) -> None:
    keep = data.draw(st.none() | st.just(Keep(1.0)))
    policy = Every(data.draw(st.sampled_from([0.5, 1.1])))
    beside = Captioner(WORLD, policy, stop=STOP, keep=keep)
    wholes = [
        [stream(n, data.draw(st.floats(0.3, 3)), seed=data.draw(st.integers(0, 9))) for n in names]
        for names in data.draw(st.lists(st.sets(st.sampled_from(SENSES), min_size=1), min_size=2, max_size=4))
    ]
    want = [alone(policy, keep, w) for w in wholes]
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
    from mmworld.models import desk as module

    sizes: list[int] = []
    here, go = threading.Semaphore(0), threading.Event()
    fed = module.together.feed

    def slow(coming: list) -> list:
        sizes.append(len(coming))
        here.release()
        assert go.wait(5)
        return fed(coming)

    monkeypatch.setattr(module.together, "feed", slow)
    teller = Captioner(WORLD, Every(9.0))
    whole = stream("video", 1.0)
    with ThreadPoolExecutor(3) as pool:
        cuttings = [teller.begin(["video"]) for _ in range(3)]
        done = [pool.submit(lambda c: list(c.take(whole)), cuttings[0])]
        assert here.acquire(timeout=5)
        done += [pool.submit(lambda c: list(c.take(whole)), c) for c in cuttings[1:]]
        while module.desk(WORLD).feed.waiting < 2:
            time.sleep(0.001)
        go.set()
        assert [len(d.result(5)) for d in done] == [1, 1, 1]
    assert sizes == [1, 2]


def test_a_source_that_fails_and_one_that_is_saved_change_nothing_of_the_others(tmp_path: Path) -> None:
    beside, whole = Captioner(WORLD, Every(0.5), stop=STOP), stream("video", 3.0, seed=4)
    want = alone(Every(0.5), None, [whole])

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
    from mmworld.models import desk as module

    teller, how = Captioner(WORLD, Every(9.0)), ("two dogs", GREEDY, STOP)
    contexts = [teller.begin(["video"]).now().context for _ in range(3)]
    answer = module.answer

    def picky(world: object, some: list, *how: object) -> object:
        if any(c is contexts[1] for c in some):
            raise UsageError("not that one")
        return answer(world, some, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "answer", picky)
    made = module.Desk()._answered([(WORLD, how, [c]) for c in contexts])
    alone = answer(WORLD, [contexts[0]], *how)
    assert [made[0], made[2]] == [alone, alone]
    assert isinstance(made[1], UsageError)


def test_a_question_goes_to_each() -> None:
    wholes, asked = [stream("video", 2.0, seed=i) for i in range(2)], threading.Event()

    def held(whole: Chunk) -> Iterator[Chunk]:
        yield whole
        asked.wait(5)

    teller = Captioner(WORLD, Every(9.0), stop=STOP)
    lives = [Live(teller, [Opened("toy", ("video",), held(w), live=True)]) for w in wholes]
    with Crowd(lives) as crowd:
        while min(live.clock for live in lives) < 2.0:
            time.sleep(0.01)
        answers = [f.result(5) for f in crowd.ask("two dogs")]
        asked.set()
        told = [(live, e) for live, e in crowd if isinstance(e, Answer)]
    assert {(live, e.text) for live, e in told} == {(v, a.text) for v, a in zip(lives, answers, strict=True)}
