"""Qwen2-VL and Qwen2.5-VL: pictures of all sizes packed, positions on three axes, films in stretches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from torch import Tensor

import mmworld
from mmworld.fusion.places import Grid, places
from mmworld.media import gate
from mmworld.media.video import uniform
from mmworld.models.zoo.parity.case import both, ids, noise
from mmworld.models.zoo.parity.grids import CASES, IMAGE, VIDEO, asked, films
from mmworld.models.zoo.parity.grids import given as told
from mmworld.models.zoo.qwen_vl import Film, QwenVL
from mmworld.nn.state import KVState
from mmworld.vision.budget import FilmBudget

KINDS = ["qwen2_vl", "qwen2_5_vl"]
UNIT = 8
"""Pixels of the side of a token."""


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return both(CASES[request.param], tmp_path_factory.mktemp(request.param))


shapes = st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


@torch.no_grad()
@given(sizes=st.lists(shapes, min_size=1, max_size=4))
def test_pictures_and_films_of_any_size_are_seen_packed(pair: Any, sizes: list[tuple[int, int, int]]) -> None:
    ours, theirs = pair
    shown = [noise(2 * t, 3, UNIT * h, UNIT * w) for t, h, w in sizes]
    grids = torch.tensor([ours.vision.boxes.grid(f) for f in shown])
    want = theirs.get_video_features(torch.cat([ours.vision.boxes.cut(f) for f in shown]), grids).pooler_output
    check(ours.see(shown), torch.cat(want))


@st.composite
def texts(draw: st.DrawFn) -> list[tuple[int, Grid | None]]:
    """Words, and after them a picture or a film, if any; the last are words."""
    grid = st.builds(Grid, st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.none())
    return [*draw(st.lists(st.tuples(st.integers(1, 5), grid), max_size=4)), (draw(st.integers(1, 5)), None)]


@given(text=texts(), seconds=st.floats(0.05, 9), data=st.data())
def test_positions_are_those_of_the_reference(pair: Any, text: Any, seconds: float, data: st.DataObject) -> None:
    ours, theirs = pair
    kinds, grids, given = [], [], {IMAGE: [], VIDEO: []}
    for words, grid in text:
        kinds += [0] * words
        if grid is not None:
            kind = data.draw(st.sampled_from([IMAGE, VIDEO]))
            step = 1.0 if kind == IMAGE else ours.vision.config.step(seconds)
            grids.append(Grid(1 if kind == IMAGE else grid.time, grid.height, grid.width, step))
            given[kind].append([grids[-1].time, 2 * grid.height, 2 * grid.width])
            kinds += [kind] * grids[-1].n
    row = torch.tensor([kinds])
    want, _ = theirs.model.get_rope_index(
        row,
        mm_token_type_ids=(row == IMAGE) + 2 * (row == VIDEO),
        image_grid_thw=torch.tensor(given[IMAGE]) if given[IMAGE] else None,
        video_grid_thw=torch.tensor(given[VIDEO]) if given[VIDEO] else None,
        second_per_grid_ts=torch.tensor([seconds] * len(given[VIDEO])),
    )
    got, after = places(row[0] > 0, grids)
    assert torch.equal(got, want[:, 0])
    assert after == int(got[0, -1]) + 1


@torch.no_grad()
def test_texts_with_what_they_show_are_packed(pair: Any) -> None:
    ours, theirs = pair
    shown = films(UNIT)
    split = shown[:3], shown[3:], ()
    texts = [asked(ours, part) for part in split]
    lengths = tuple(t.shape[1] for t in texts)
    packed = ours(torch.cat(texts, dim=1), [Film(*s) for s in shown], lengths=lengths).split(lengths, dim=1)
    for part, text, got in zip(split, texts, packed, strict=True):
        check(got, theirs(**told(ours, part)).logits if part else theirs(text).logits)


@torch.no_grad()
def test_it_goes_on_as_the_reference_does(pair: Any) -> None:
    ours, theirs = pair
    shown = films(UNIT)[:2]
    given = told(ours, shown)
    want = theirs.generate(**given, max_new_tokens=32, do_sample=False, pad_token_id=0)
    state = ours.init_state()
    logits = ours(given["input_ids"], [Film(*s) for s in shown], state)[:, -1]
    assert goes_on(ours, logits, state) == want[0, given["input_ids"].shape[1] :].tolist()


def stretches(frames: Tensor, seconds: float | None, cuts: list[int]) -> list[Film]:
    """A film in stretches of so many groups of two frames."""
    parts = frames.split([2 * n for n in cuts])
    firsts = [sum(cuts[:i]) for i in range(len(cuts))]
    return [Film(p, seconds, n, n == firsts[-1]) for p, n in zip(parts, firsts, strict=True)]


@torch.no_grad()
@given(data=st.data())
def test_read_in_stretches_it_is_what_it_is_at_once(pair: Any, data: st.DataObject) -> None:
    """Words, pictures, and a film group by group, each with the state that the others left."""
    ours, _ = pair
    shown = films(UNIT)
    text, state, once, outs = asked(ours, shown)[0], ours.init_state(), ours.init_state(), []
    whole = ours(text[None], [Film(*s) for s in shown], once)
    for frames, seconds in shown:
        cuts, groups = [], len(frames) // 2
        while sum(cuts) < groups:
            cuts.append(data.draw(st.integers(1, groups - sum(cuts))))
        n = int(((text == IMAGE) | (text == VIDEO)).nonzero()[0])
        while n > 1 and data.draw(st.booleans()):  # words by themselves
            k = data.draw(st.integers(1, n - 1))
            outs.append(ours(text[None, :k], state=state))
            text, n = text[k:], n - k
        for film in stretches(frames, seconds, cuts):
            end, n = n + ours.grid(film).n, 0
            outs.append(ours(text[None, :end], [film], state))
            text, state = text[end:], state.fork()
    outs.append(ours(text[None], state=state))
    assert relative_error(torch.cat(outs, dim=1), whole) <= 1e-5
    assert state.next == once.next


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 60])
def test_a_real_film_read_group_by_group_is_what_it_is_at_once(
    window: int | None, shared_data: Path, pair: Any
) -> None:
    """In a window, too, which forgets the beginning: positions go on counting."""
    ours, _ = pair
    media = gate.open_media(shared_data / "media" / "video" / "sam2_01_dog.mp4")
    frames = FilmBudget(64, 64 * 9, patch_size=4)(torch.stack([f.data for f in uniform(media, 32)]))
    film, once, state = Film(frames, 0.7), KVState(window), KVState(window)
    question, n = ids(6), ours.grid(film).n
    whole = ours(torch.cat((torch.full((1, n), VIDEO), question), dim=1), [film], once)
    groups = stretches(frames, film.seconds, [1] * 16)
    outs = [ours(torch.full((1, n // 16), VIDEO), [group], state) for group in groups]
    outs.append(ours(question, state=state))
    assert relative_error(torch.cat(outs, dim=1), whole) <= 1e-5
    assert state.next == once.next < n
    assert len(state) == (n + 6 if window is None else window)


@torch.no_grad()
def test_what_does_not_fit_is_refused(pair: Any) -> None:
    ours, _ = pair
    picture = Film(noise(2, 3, UNIT, 2 * UNIT))
    text = torch.tensor([[3, IMAGE, IMAGE, 4]])
    with pytest.raises(ValueError, match="has 2 places for tokens of what it shows, which gives 4"):
        ours(text, [picture, picture])
    with pytest.raises(ValueError, match="there are words among the 2 tokens of a picture"):
        ours(torch.tensor([[IMAGE, 4, IMAGE]]), [picture])
    with pytest.raises(ValueError, match="2 rows of ids with films"):
        ours(text.expand(2, -1), [picture, picture])
    with pytest.raises(ValueError, match=r"frames of shape \[2, 3, 8, 12\] are no multiples of \[2, 8, 8\]"):
        ours(text, [Film(noise(2, 3, 8, 12))])


@pytest.mark.parametrize("name", KINDS)
def test_files_that_say_all_in_one_place_are_read(name: str, tmp_path: Path) -> None:
    ours, _ = both(CASES[name], tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    told = said.pop("text_config")
    rotation = told.pop("rope_parameters")
    old = {"rope_theta": rotation["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 3]}}
    (tmp_path / "config.json").write_text(json.dumps({**told, **said, **old}))
    again, text = mmworld.load(tmp_path), ids(5)
    assert torch.equal(again(text), ours(text))
    assert isinstance(again, QwenVL)
    assert again.language.backbone.position.sections == (2, 1, 3)
