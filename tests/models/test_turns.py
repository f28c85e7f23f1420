"""RollingWatcher: what a borrowed model says of a stream that it reads once is what it says of the whole conversation,
as the checkpoint's own template writes it; and, where some of it has gone, what it says by definition."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import QWEN_BUDGET, answerer, conversant, sized, vocabulary
from checkpoints import saved as saved_as
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import relative_error
from rolled import by_definition
from test_live_borrowed import captions, opened, run, saved
from test_scenes import film, frame_sizes, pieces
from torch import Tensor

import mmworld
from mmworld.errors import CheckpointError, UsageError
from mmworld.generate.stop import Stop
from mmworld.models.keep import Keep
from mmworld.models.live import Live
from mmworld.models.message import Message
from mmworld.models.opening import Opened
from mmworld.models.scenes import Scenes
from mmworld.models.talk import SAID, SEEN, Layout, Talk, tell
from mmworld.models.turns import RollingWatcher
from mmworld.models.zoo.conversation import DESCRIBE
from mmworld.models.zoo.parity import CASES
from mmworld.models.zoo.parity.tiled import CANVASES, SIDE
from mmworld.nn.rolling import Piece, Rolling
from mmworld.stream.policy import Every, OnChange, OnDemand, Policy
from mmworld.types import Caption, Chunk, Gap
from mmworld.vision.boxes import Boxes
from mmworld.vision.budget import FilmBudget

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
TEMPLATE = """{% for m in messages %}{{ m.role }}: {% for p in m.content %}\
{{ p.text if p.type == 'text' else '<' + p.type + '>\n' }}{% endfor %}</s>{% endfor %}assistant:"""


def filming(folder: Path, name: str) -> tuple[Any, Any, Any]:
    """A LLaVA that watches films, its vocabulary and what prepares frames."""
    fast = vocabulary(folder, "<image>", "<video>")
    prepare = hf.LlavaOnevisionImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_grid_pinpoints=CANVASES)
    said = {**prepare.to_dict(), "video_processor_type": "LlavaOnevisionVideoProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(said))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return saved_as(sized(CASES[name], len(fast), image_token_index=2, video_token_index=3), folder), fast, prepare


MAKERS: dict[str, Callable[[Path], Any]] = {
    "qwen2_5_vl": conversant,
    "qwen2_vl": lambda folder: conversant(folder, "qwen2_vl"),
    "llava": answerer,
    "llava_next_video": lambda folder: filming(folder, "llava_next_video"),
    "llava_onevision": lambda folder: filming(folder, "llava_onevision"),
}
all_of_them = pytest.mark.parametrize("pair", sorted(MAKERS), indirect=True)
policies = st.sampled_from([Every(1.0), Every(0.7), OnChange(0.3, 0.5, 2.0)])
N = 6
SECOND = Every(1.0)
ALL, SOME = Keep(1e4, text=10_000), Keep(1.5, text=45)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "llava"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """Ours, theirs, and their vocabulary."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs, fast, _ = MAKERS[request.param](folder)
    return mmworld.load(folder), theirs, fast


def teller(model: Any, policy: Policy = SECOND, keep: Keep = SOME, prompt: str = "") -> RollingWatcher:
    return RollingWatcher(model, policy, prompt=prompt, stop=Stop(N), keep=keep)


def glimpses(model: Any, frames: Tensor) -> Iterator[Tensor]:
    """Frames as they are seen together: what is missing is the last one again, as their processors have it."""
    for part in frames.split(model.together):
        yield part if len(part) == model.together else part.repeat(2, 1, 1, 1)


def told(model: Any, ids: Tensor, shown: Sequence[Tensor]) -> dict[str, Any]:
    """What theirs are given: the ids, and each glimpse as a film of its own, prepared here."""
    if "video" in model.takes.senses and model.together == 1:
        return {"input_ids": ids, "pixel_values_videos": torch.stack([model.processors["video"](x) for x in shown])}
    if model.together == 1:
        return {"input_ids": ids, "pixel_values": torch.stack([model.processors["image"](x[0]) for x in shown])}
    frames = [FilmBudget.read(QWEN_BUDGET, "here")(x) for x in shown]
    boxes, text = Boxes(2, 4, 2), ids == model.config.video_token_id
    given: dict[str, Any] = {"input_ids": ids, "mm_token_type_ids": 2 * text}
    given |= {"pixel_values_videos": torch.cat([boxes.cut(f) for f in frames])}
    given |= {"video_grid_thw": torch.tensor([boxes.grid(f) for f in frames])}
    if model.config.model_type == "qwen2_5_vl":
        given |= {"second_per_grid_ts": torch.ones(len(frames))}
    return given


@torch.no_grad()
@all_of_them
@pytest.mark.parametrize("prompt", ["", "There is"])
def test_each_caption_is_that_of_the_whole_conversation_read_anew(pair: Any, prompt: str) -> None:
    """Theirs reads at each turn all that was shown and said, written by the template: the same ids, greedily."""
    model, theirs, _ = pair
    frames, sense = film(3.5).data, "video" if "video" in model.takes.senses else "image"
    got = teller(model, keep=ALL, prompt=prompt).caption(opened(film(3.5)))
    assert len(got) == 4
    messages: list[Message] = []
    shown: list[Tensor] = []
    for caption, part in zip(got, frames.split(4), strict=True):
        mine = list(glimpses(model, part))
        thing = Chunk(part[:1], 0.0, 1.0, sense)
        asked = Message("user", (*[thing] * len(mine), DESCRIBE["video"]))
        shown += mine
        begun = [Message("assistant", (prompt,))] if prompt else []
        text = model.written([*messages, asked, *begun])
        n = [model.glimpse(x, 10**4).x.shape[0] for x in shown]
        ids = torch.tensor([[j for i in text for j in ([i] * n.pop(0) if i == model.place else [i])]])
        given = told(model, ids, shown) | {"attention_mask": torch.ones_like(ids)}
        want = theirs.generate(**given, max_new_tokens=N, do_sample=False, pad_token_id=0)
        said = model.tokenizer.decode(want[0, ids.shape[1] :].tolist()).strip()
        assert caption.text.removeprefix(prompt).strip() == said
        messages += [Message("user", (thing,) * len(mine)), Message("assistant", (caption.text,))]


def recorded(model: Any, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Piece], Rolling]:
    """What enters the decoder of six seconds of film, told of every second: tokens and pieces; and what is held."""
    xs, kept, enter, held = [], [], Rolling.enter, []

    def entered(self: Rolling, x: Tensor, piece: Piece, hidden: Any) -> Tensor:
        xs.append(x)
        kept.append(piece)
        held[:] = [self]
        return enter(self, x, piece, hidden)

    monkeypatch.setattr(Rolling, "enter", entered)
    assert len(teller(model, keep=keep).caption(opened(film(6.0)))) == 6
    monkeypatch.undo()
    return xs, kept, held[0]


@torch.no_grad()
@all_of_them
def test_where_some_of_it_has_gone_it_is_what_it_is_by_definition(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers to 1e-5, and what is said next, id for id: brute force over all pieces, with positions of their own."""
    model, *_ = pair
    xs, entered, rolling = recorded(model, SOME, monkeypatch)
    assert 4 < len(rolling.kinds) < len(entered)
    assert {SEEN, SAID} <= set(rolling.kinds)
    language, budgets = model.language, (math.inf, SOME.seconds, SOME.text, math.inf)
    again = Rolling(budgets)
    outs = [again.enter(x, p, language.hidden) for x, p in zip(xs, entered, strict=True)]
    assert relative_error(torch.cat(outs, dim=1), by_definition(language.backbone, xs, entered, budgets)) <= 1e-5
    talk = Talk(model, SOME, rolling)
    said = tell([talk], "what is this?", stop=Stop(N))[0]
    ids = talk.layout.asked("what is this?")
    for i in said.ids:
        at = talk._at(len(ids))
        x = language.embed(torch.tensor([ids]))
        hidden = by_definition(language.backbone, [*xs, x], [*entered, Piece(3, at, len(ids))], budgets)
        assert int(language.logits(hidden[:, -1]).argmax()) == i
        ids = [*ids, i]
    assert said.ids


@torch.no_grad()
def test_nothing_is_read_twice_and_text_stays_longer(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What enters is the opening, each glimpse once, and each caption once; frames of 1.5 s are held, text of more."""
    model, *_ = pair
    seen: list[Tensor] = []
    glimpse = type(model).glimpse
    monkeypatch.setattr(type(model), "glimpse", lambda m, x, held: (seen.append(x), glimpse(m, x, held))[1])
    _, entered, rolling = recorded(model, Keep(1.5, text=120), monkeypatch)
    assert torch.equal(torch.cat(seen), film(6.0).data)
    assert [p.kind for p in entered].count(SEEN) == len(seen) == 24 // model.together
    assert [p.kind for p in entered].count(SAID) == 6
    assert [p.kind for p in entered].count(0) == rolling.kinds.count(0) == 1
    assert rolling.kinds.count(SEEN) == 1.5 * 4 // model.together
    assert 2 <= rolling.kinds.count(SAID) < 6, "captions of a second each"


@settings(max_examples=10)
@given(sizes=frame_sizes, policy=policies, length=st.floats(0.3, 4))
def test_no_pieces_change_what_is_said(pair: Any, sizes: list[int], policy: Policy, length: float) -> None:
    model, *_ = pair
    want = teller(model, policy).caption(opened(film(length)))
    assert teller(model, policy).caption(opened(*pieces(film(length), sizes))) == want
    scenes = Scenes(replace(model.takes, frames=1), ["video"], policy.start(0.0))
    cut = [s for c in pieces(film(length), sizes) for s in scenes.take(c)] + list(scenes.finish())
    assert [(c.start, c.end) for c in want] == [(s.start, s.end) for s in cut]
    assert run(Live(teller(model, policy), [opened(*pieces(film(length), sizes))])) == want


@pytest.mark.parametrize("policy", [Every(1.0), OnChange(0.3, 0.5, 2.0)])
def test_saved_at_any_point_it_goes_on_as_if_never_stopped(pair: Any, policy: Policy, tmp_path: Path) -> None:
    """A frame that waits for its neighbour, too."""
    model, *_ = pair
    events = pieces(film(4.0), [1] * 16)
    want = teller(model, policy).caption(opened(*events))
    assert len(want) >= 3
    for at in (0, 1, 7, 10, 16):
        assert saved(teller(model, policy), events, at, tmp_path / "state") == want
        with Live(teller(model, policy), [opened(*events)], resume=tmp_path / "state") as live:
            assert captions(list(live)) == want[live.before.captions :]
    for other in (teller(model, policy, Keep(9.0)), teller(copy.deepcopy(model).double(), policy)):
        with pytest.raises(CheckpointError, match="of another model"):
            Live(other, [opened(*events)], resume=tmp_path / "state")


def test_it_is_asked_about_all_that_it_remembers_and_goes_on(pair: Any) -> None:
    """As the conversation up to there is answered; nothing that is told changes."""
    model, *_ = pair
    events, go = pieces(film(3.0), [1] * 12), threading.Event()

    def held() -> Iterator[Chunk]:
        yield from events[:7]
        go.wait(10)
        yield from events[7:]

    with Live(teller(model), [Opened("toy", ("video",), held(), live=True)], pressure="block") as live:
        while live.clock < 1.75:
            pass
        answer = live.ask("a dog?").result(20)
        go.set()
        told = captions(list(live))
    assert told == teller(model).caption(opened(*events))
    talk = Talk(model, SOME)
    for part in film(1.0).data.split(model.together):
        talk.show([Chunk(f[None], 0.0, 0.25, "video") for f in part])
    talk.commit(told[0].text)
    for part in film(1.75).data[4:].split(model.together):
        talk.show([Chunk(f[None], 0.0, 0.25, "video") for f in part])
    assert (answer.time, answer.text) == (1.75, tell([talk], "a dog?", stop=Stop(N))[0].text)


def test_it_is_bounded(pair: Any) -> None:
    """In bytes and in positions, and what is held waits for nothing."""
    model, *_ = pair
    turns, most, far = teller(model).begin(["video"]), 0, 0
    with pytest.raises(UsageError, match="tells nothing provisional"):
        turns.provisional = 1.0
    for i in range(120):
        frame = Chunk(film(1.0).data[i % 4][None], i / 4, (i + 1) / 4, "video")
        for turn in turns.take(frame):
            assert turn.talk is None
        if i < 48:
            most, far = max(most, turns.nbytes), max(far, turns._talk.context.end)
        assert turns.nbytes <= 1.5 * most
        assert turns._talk.context.end <= far + SOME.text
    assert turns.clock == 30.0


def test_no_glimpse_lies_across_a_gap(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *_ = pair
    sizes: list[int] = []
    show = Talk.show
    monkeypatch.setattr(Talk, "show", lambda t, frames: (sizes.append(len(frames)), show(t, frames))[1])
    first, rest = pieces(film(3.0), [3])
    later = replace(rest, start=rest.start + 5, end=rest.end + 5)
    items: Any = [first, Gap(0.75, 5.75, "video", "outage", "hall"), later]
    with Live(teller(model, Every(10.0)), [Opened("hall", ("video",), iter(items), live=True)]) as live:
        events = list(live)
    assert [(type(e), e.start, e.end) for e in events] == [(Gap, 0.75, 5.75), (Caption, 0.0, 8.0)]
    assert sizes == ([1] * 12 if model.together == 1 else [2, 1, 2, 2, 2, 2, 1])


def test_several_talks_are_told_of_side_by_side(pair: Any) -> None:
    model, *_ = pair
    talks = [Talk(model, SOME) for _ in range(3)]
    for i, talk in enumerate(talks):
        for part in film(1.0 + i).data.split(model.together):
            talk.show([Chunk(f[None], 0.0, 0.25, "video") for f in part])
    alone = [tell([t], stop=Stop(N))[0].ids for t in talks]
    assert [g.ids for g in tell(talks, stop=Stop(N))] == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("keep", [None, SOME])
def test_on_demand_it_says_nothing_by_itself(pair: Any, keep: Keep | None) -> None:
    model, *_ = pair
    with mmworld.watch(opened(film(1.0)), model=model, keep=keep, policy=OnDemand(), stop=Stop(N)) as live:
        assert list(live) == []
        assert live.ask("a dog?").result(20).time == 1.0


def test_what_it_says_or_is_asked_can_spell_anything(pair: Any) -> None:
    """The words for a thing that is shown are no thing."""
    model, *_ = pair
    mark = {2: "<|video_pad|>", 1: "<image>"}[model.together]
    layout = Layout(model)
    assert layout.said(f"a {mark} dog")[-len(layout.before) or None :] != []
    for ids in (layout.said(f"a {mark} dog"), layout.asked(f"a {mark} dog")):
        assert model.place not in ids
    talk = Talk(model, SOME)
    talk.commit(f"{mark} is seen")
    assert tell([talk], f"{mark}?", stop=Stop(2))


def test_what_cannot_keep_is_refused(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, *_ = pair

    def numbered(model: Any, messages: Sequence[Message]) -> list[int]:
        """A template that counts the pictures."""
        things = [p for m in messages for p in m.parts if isinstance(p, Chunk)]
        return [i for n in range(len(things)) for i in (3, 10 + n, model.place, 4)] + [5]

    monkeypatch.setattr(type(model.language.config), "window", property(lambda c: 7))
    with pytest.raises(UsageError, match="its language model sees 7 ids back and no more"):
        mmworld.watch(opened(film(1.0)), model=model, keep=SOME)
    monkeypatch.undo()
    monkeypatch.setattr(type(model), "written", numbered)
    with pytest.raises(UsageError, match="does not write a film bit by bit"):
        mmworld.watch(opened(film(1.0)), model=model, keep=SOME)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_remembers_the_same(pair: Any, tmp_path: Path) -> None:
    """Alone and side by side, and saved and gone on with where the model is."""
    model, *_ = pair
    there = copy.deepcopy(model).to("cuda")
    near, far = ([Talk(m, SOME) for _ in range(2)] for m in (model, there))
    for talk in (*near, *far):
        for i, part in enumerate(film(4.0).data.split(model.together)):
            talk.show([Chunk(f[None], 0.0, 0.25, "video") for f in part])
            if i % 4 == 3:
                talk.commit("a dog runs")
    a, b = (t[0].context.settled(m.language.backbone.position) for t, m in ((near, model), (far, there)))
    for x, y in zip(a.keys + a.values, b.keys + b.values, strict=True):
        assert relative_error(y.x.cpu(), x.x) <= 1e-4
    assert [g.ids for g in tell(far, stop=Stop(N))] == [g.ids for g in tell(near, stop=Stop(N))]
    events = pieces(film(4.0), [1] * 16)
    want = saved(teller(there), events, 7, tmp_path / "state")
    with Live(teller(there), [opened(*events)], resume=tmp_path / "state") as live:
        assert captions(list(live)) == want[live.before.captions :]
