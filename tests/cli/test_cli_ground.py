"""Where things are in pictures: as the reference says it, printed, as JSON, and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import captioner, grounder
from clips import clip
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mmworld
from mmworld.cli import command
from mmworld.cli.boxes import compose, places
from mmworld.cli.spans import LINE, width
from mmworld.errors import MediaError, UsageError
from mmworld.generate.stop import Stop
from mmworld.text.grounding import Entity, Grounded

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a model and pictures, theirs and its processor."""
    folder = tmp_path_factory.mktemp("ground")
    theirs, processor = grounder(folder / "kosmos")
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return folder, theirs, processor


@torch.no_grad()
@pytest.mark.parametrize(
    ("phrase", "text"), [(None, "<grounding> An image of"), ("two boys", "<grounding><phrase> two boys</phrase>")]
)
def test_places_are_those_of_the_reference(made: Any, phrase: str | None, text: str) -> None:
    folder, theirs, processor = made
    shown = processor(text=text, images=Image.open(folder / "0.png"), return_tensors="pt")
    whole = theirs.generate(**shown, max_new_tokens=64, do_sample=False)
    want = processor.post_process_generation(processor.batch_decode(whole, skip_special_tokens=True)[0])
    got = mmworld.ground(folder / "0.png", model=folder / "kosmos", phrase=phrase, stop=Stop(64))
    assert (got.text, [(e.phrase, e.span, list(e.boxes)) for e in got.entities]) == want
    assert [len(e.boxes) for e in got.entities if e.phrase == "two boys"] == [2]
    assert all(got.text[slice(*e.span)] == e.phrase for e in got.entities)
    assert all(0 <= x <= 1 for e in got.entities for box in e.boxes for x in box)


def test_it_is_printed_and_drawn(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *_ = made
    pictures, flags = [str(folder / f"{i}.png") for i in range(2)], ["--model", str(folder / "kosmos")]
    told = mmworld.ground(pictures[0], model=folder / "kosmos")
    assert command(["ground", pictures[0], *flags, "--plot", str(tmp_path / "a.png")]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    boxes = [(box, e.phrase) for e in told.entities for box in e.boxes]
    assert first == told.text
    assert rows == ["  ".join((*(f"{x:.3f}" for x in box), phrase)) for box, phrase in boxes]
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.width > drawn.height > 400
    assert command(["ground", *pictures, *flags, "--json", "--plot", str(tmp_path / "{stem}.svg")]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["source"] for f in found] == pictures
    assert [e["boxes"] for e in found[0]["entities"]] == [[list(box) for box in e.boxes] for e in told.entities]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.svg", "1.svg", "a.png"]
    assert command(["ground", *pictures, *flags]) == 0
    assert capsys.readouterr().out.startswith(f"{pictures[0]}: ")


def test_boxes_are_drawn_where_they_are() -> None:
    found = Grounded("a $dog$", (Entity("$dog$", (2, 7), ((0.25, 0.5, 0.75, 0.75), (0.9, 0.8, 0.2, 0.1))),))
    figure = compose(torch.zeros(3, 10, 400, dtype=torch.uint8), found)
    (axes,) = figure.axes
    drawn = np.array([(*p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches])
    assert np.allclose(drawn, [(0.25, 0.5, 0.5, 0.25), (0.2, 0.1, 0.7, 0.7)])
    assert [t.get_text() for t in axes.texts] == ["$dog$", "$dog$"]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (1, 0))


SHARE = st.floats(0, 1)


@given(boxes=st.lists(st.tuples(SHARE, SHARE, SHARE, SHARE), max_size=8), down=st.floats(2, 8))
def test_phrases_do_not_cover_each_other(boxes: list[Any], down: float) -> None:
    marks = [(box, "a dog" * (i % 3 + 1), "") for i, box in enumerate(boxes)]
    at = [(x, x + width(m[1]), y) for (x, y), m in zip(places(marks, 8.0, down), marks, strict=True)]
    assert all(x >= 0 and end <= 8 and y >= 0 for x, end, y in at)
    for i, (x, end, y) in enumerate(at):
        assert all(x > b or end < a or abs(y - z) > LINE for a, b, z in at[:i])


def test_what_cannot_be_is_said(made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *_ = made
    model, picture = folder / "kosmos", folder / "0.png"
    for phrase in ("", " ", "<object>"):
        with pytest.raises(UsageError, match="a phrase is plain words"):
            mmworld.ground(picture, model=model, phrase=phrase)
    captioner(tmp_path)
    with pytest.raises(UsageError, match="a BLIP cannot say where things are") as refused:
        mmworld.ground(picture, model=tmp_path)
    assert refused.value.hint == "these can: Kosmos-2"
    with pytest.raises(MediaError, match="wanted is image"):
        mmworld.ground(Path(mmworld.__file__).parent / "samples" / "sounds.wav", model=model)
    (tmp_path / "film.mp4").write_bytes(clip(20, fps=10))
    assert mmworld.ground(tmp_path / "film.mp4", model=model).entities
    assert command(["ground"]) == 2
    assert command(["ground", str(picture), "--model", "nano"]) == 2
    assert command(["ground", str(picture), "--model", str(model), "--plot", "a.txt"]) == 2
    assert "names no picture" in capsys.readouterr().err
