"""A listen/speak head learns when events end, the same from the same recipe, and is used as it was trained."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mmworld.cli import command
from mmworld.errors import ConfigError
from mmworld.models.captioner import Captioner
from mmworld.models.load import SHIPPED, load
from mmworld.models.opening import Opened
from mmworld.models.speakhead import HEAD, KIND, AsTrained, SpeakHead, SpeakHeadConfig
from mmworld.render import streams
from mmworld.stream.answers import answered
from mmworld.train import run
from mmworld.train.speak import Heard, hear, log_odds, moments
from mmworld.types import Caption
from mmworld.weights.checkpoint import read_header

pytestmark = pytest.mark.skipif(not SHIPPED["nano"].is_dir(), reason="nano is not part of this checkout")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    text = f"model: nano\nout: {tmp_path / 'out'}\nstreams: {{heard: 2}}\nheld_out: 1\nseconds: 10.0\npasses: 2\n"
    (tmp_path / "speak.yaml").write_text(text)
    return tmp_path / "speak.yaml"


def test_the_same_recipe_makes_the_same_head(recipe: Path, tmp_path: Path) -> None:
    first = run(recipe).read_bytes()
    assert run(recipe).read_bytes() == first
    other = run(recipe, [f"out={tmp_path / 'other'}", "seed=1"])
    one, two = SpeakHead.load(tmp_path / "out"), SpeakHead.load(tmp_path / "other")
    assert one.config.dims == {"audio": 192}
    assert not torch.equal(one.says.weight, two.says.weight)
    about = json.loads(read_header(other)["__metadata__"][KIND])["about"]
    assert about["recipe"]["seed"] == 1
    assert about["recipe"]["streams"] == {"heard": 2}


def test_it_is_trained_as_a_command(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", str(recipe), "passes=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out).items() >= {"folder": str(tmp_path / "out"), "done": True}.items()
    assert (tmp_path / "out" / HEAD).is_file()
    for wrong in ("passses=1", "streams={sen: 2}", "streams={}", "held_out=0"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
            run(recipe, [wrong])


def test_when_to_speak_of_an_event() -> None:
    """From `delay` after it on, for `span` seconds."""
    ends = torch.arange(1, 41, dtype=torch.float64) / 4
    heard = Heard({}, torch.arange(40), ends, tuple(Caption("", 0.0, t) for t in (1.0, 2.05, 9.9)))
    got = [float(e) for e, w in zip(ends, heard.wanted(0.2, 0.6), strict=True) if w]
    assert got == [1.25, 1.5, 1.75, 2.25, 2.5, 2.75]


@pytest.mark.parametrize("kind", list(streams.SENSES))
def test_at_once_as_it_comes(kind: str) -> None:
    """A whole stream in one pass, as it is trained on, has the policy speak when the stream itself does."""
    world, course = load("nano"), streams.draw(np.random.default_rng(5), kind, 12.0)
    torch.manual_seed(0)
    head = SpeakHead(SpeakHeadConfig({"audio": 192, "video": 192})).requires_grad_(False)
    (odds,) = log_odds(head, [heard := hear(world, course)])
    some = odds.sigmoid().sort().values
    wide = len(some) // 4 + int(some[len(some) // 4 : -len(some) // 4].diff().argmax())
    policy = AsTrained(head, float(some[wide : wide + 2].mean()), shortest=0.5, longest=3.0)
    told = moments(policy, odds.sigmoid().tolist(), heard.ends.tolist())
    segments = Captioner(world, policy).begin([c.modality for c in course.chunks])
    said = [s.end for c in course.chunks for s in segments.take(c)]
    end = course.chunks[0].end
    assert sum(3.0 - (b - a) > 1e-6 for a, b in pairwise([0.0, *told])) > 1, "it speaks by itself, too"
    assert [t for t in said if t < end - 1e-6] == pytest.approx([t for t in told if t < end - 1e-6], abs=1e-6)


@pytest.mark.slow
def test_it_learns_when_sounds_end(recipe: Path, tmp_path: Path) -> None:
    run(recipe, ["streams={heard: 20}", "held_out=4", "seconds=40.0", "passes=30"])
    assert json.loads(read_header(tmp_path / "out" / HEAD)["__metadata__"][KIND])["about"]["f1"] > 0.9
    course = streams.draw(np.random.default_rng(77), "heard", 180.0)
    said = Captioner(load("nano"), AsTrained(tmp_path / "out")).caption(Opened("a", ("audio",), iter(course.chunks)))
    found = answered(said, course.events, 0.75)
    assert len(found) >= 0.8 * max(len(said), len(course.events))  # of 20 short streams; every two seconds finds half
