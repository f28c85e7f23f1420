"""`mmworld eval`: a tiny model through every step, what is missing is said, and the card repeats the report."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_suites import Told, recordings
from toy import stream, toy_world

from mmworld import config
from mmworld.config import build
from mmworld.errors import SourceError, UsageError
from mmworld.evaluate import card, folds, nano
from mmworld.evaluate.score import Score, share
from mmworld.generate.beam import Beam
from mmworld.models.load import SHIPPED, find
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.text.tokenizer import Tokenizer
from mmworld.train import fit, real
from mmworld.train.recipe import Recipe, legs
from mmworld.weights.shards import revision

CONFIGS = Path(nano.__file__).parents[1] / "configs" / "train"
SMALL = {"dim": 16, "depth": 1, "n_heads": 2, "hidden": 16}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of a few thousand weights that sees, hears and scans."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red circle moves left, then a dog barks"] * 4, 300)
    adapters = dict.fromkeys(("audio", "image", "points", "video"), SMALL)
    folder = tmp_path_factory.mktemp("model")
    World(WorldConfig(TransformerConfig(**SMALL), adapters, len(tokenizer)), tokenizer).save(folder)
    return folder


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suites of three items."""
    suite, both = nano.rendered.unseen_scenes, nano.rendered.two_at_once
    monkeypatch.setattr(nano.rendered, "unseen_scenes", lambda say: suite(say, 3))
    monkeypatch.setattr(nano.rendered, "two_at_once", lambda say: both(say, 3))


def test_without_data_the_rendered_suites_run_and_the_others_say_what_is_missing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "report.json"
    report = nano.run(model, data=tmp_path / "nowhere", json_path=out, threads=1)
    assert list(report.seconds) == ["scenes", "mixed"]
    assert list(report.skipped) == ["radhar", "flickr8k", "esc10", "fsdd"]
    assert all("nowhere" in reason and "\n" not in reason for reason in report.skipped.values())
    written = json.loads(out.read_text())
    assert written["revision"] == revision(model)
    assert {s["suite"] for s in written["scores"]} == {"scenes", "mixed"}
    assert all(s["met"] is False for s in written["scores"] if s["bar"] == 0.9)  # it is untrained
    shown = capsys.readouterr().out
    assert "word for word" in shown
    assert shown.count("nowhere: no such folder") == 4


def test_an_extra_that_is_missing_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(*_: object) -> None:
        raise UsageError("training needs lightning", hint="pip install 'mmworld[train]'")

    monkeypatch.setattr(folds, "environmental", lacks)
    report = nano.run(model, ["esc10"], data=tmp_path, threads=1)
    assert report.scores == ()
    assert "mmworld[train]" in report.skipped["esc10"]
    assert "mmworld[train]" in capsys.readouterr().out


def test_an_unknown_suite_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UsageError, match=r"no suite imagenet .*one of scenes, mixed"):
        nano.run("nowhere", ["imagenet"])


def test_the_folder_of_data_is_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMWORLD_TEST_DATA", "/elsewhere")
    assert nano._data(tmp_path) == tmp_path
    assert nano._data(None) == Path("/elsewhere")
    monkeypatch.delenv("MMWORLD_TEST_DATA")
    assert nano._data(None) == Path(config.load(Recipe, nano.RECIPE).data)
    with pytest.raises(SourceError, match="no such folder"):
        nano._there(tmp_path / "x")


@pytest.mark.parametrize("sampler", [nano.GREEDY, Beam(2)])
def test_captions_come_in_the_order_of_the_items(sampler: object) -> None:
    world = toy_world()
    clips = [(stream("video", s, seed=i),) for i, s in enumerate((3.0, 1.0, 2.0, 1.0, 3.0))]
    say = nano.captions(world, sampler)
    assert say(clips) == [say([c])[0] for c in clips]
    assert len(set(say(clips))) > 1


def test_fits_are_log_probabilities_given_the_item_less_those_given_nothing() -> None:
    world = toy_world()
    clips, texts = [(stream("audio", 1.0, seed=i),) for i in range(3)], ["it rains", "two dogs bark"]
    got = nano.fits(world, clips, texts)
    with torch.no_grad():
        given = [[float(world.scores([world.item(c, t)])) for t in texts] for c in clips]
        alone = [float(world.scores([world.item((), t)])) for t in texts]
    assert got == pytest.approx(np.array(given) - alone, abs=1e-4)


def test_the_model_of_a_fold_never_hears_it_and_is_trained_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMWORLD_CACHE", str(tmp_path))
    recipes = []

    def train(recipe: Recipe) -> None:
        recipes.append(recipe)
        Path(recipe.out).mkdir(parents=True)
        (Path(recipe.out) / "model.safetensors").touch()

    monkeypatch.setattr(fit, "train", train)
    folders = [folds.trained(split, Path("data"), 1) for split in folds.SPLITS * 2]
    assert len(recipes) == len(set(folders)) == 3
    for split, recipe in zip(folds.SPLITS, recipes, strict=True):
        assert {split.fold, *recipe.folds} == set(real.FOLDS)
        assert split.fold not in recipe.folds
        assert {split.speaker, *recipe.speakers} == set(real.SPEAKERS)
        assert split.speaker not in recipe.speakers
    more_threads = folds.trained(folds.SPLITS[0], Path("elsewhere"), 2)
    assert more_threads == folders[0]  # what a run may change asks for no new model


def test_a_tiny_model_of_a_fold_is_trained_and_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    monkeypatch.setenv("MMWORLD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "fold.yaml"
    world = {"backbone": SMALL, "adapters": {"audio": {**SMALL, "width": 4, "n_mels": 16}}, "vocab": 400}
    recipe = {"world": world, "sources": {"sounds": 1.0}, "steps": 2, "batch": 2, "warmup": 1}
    path.write_text(yaml.safe_dump(recipe))
    folder = folds.trained(folds.SPLITS[0], tmp_path, 1, path)
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert folds.trained(folds.SPLITS[0], tmp_path, 1, path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_the_model_of_a_fold_is_nano_s_ear() -> None:
    ear, whole = config.load(Recipe, CONFIGS / "nano_fold.yaml").world, legs(CONFIGS / "nano.yaml")[0].world
    assert whole == config.load(WorldConfig, find("nano") / "config.yaml")
    assert ear == dataclasses.replace(whole, adapters={"audio": whole.adapters["audio"]})
    assert set(config.load(Recipe, CONFIGS / "nano_fold.yaml").sources) <= set(legs(CONFIGS / "nano.yaml")[-1].sources)


# --- the card


def report() -> dict:
    scores = (
        share("scenes", "objects", [True] * 91 + [False] * 9, 0.9),
        Score("flickr8k", "CIDEr-D", 0.123, 200, None, 0.2, {"constant": 0.1}),
    )
    return nano.Report("nano", "abc123", scores, {"scenes": 1.0, "flickr8k": 2.0}, {"esc10": "no data"}).as_dict()


def test_the_card_says_what_the_report_and_the_recipes_say() -> None:
    recipes = legs(CONFIGS / "nano.yaml")
    assert len(recipes) == 4
    world = recipes[0].world
    text = card.render(json.loads(json.dumps(report())), recipes, world, 12_345_678)
    for said in (
        "12.3 M parameters",
        "non-commercial research only",
        "0.910 ± 0.029",
        "≥ 0.900, met",
        "≥ 0.200, **not met**",
        "constant 0.100",
        "`abc123`",
        "esc10 (no data)",
        *(f"seed {r.seed}" for r in recipes),
        *(f"{r.steps:,} steps" for r in recipes),
    ):
        assert said in text
    for source in {s for r in recipes for s in r.sources}:
        assert f"| {source} |" in text
    other = legs(CONFIGS / "nano.yaml", ["steps=77", "seed=5"])
    assert "77 steps" in card.render(report(), other, world, 1)
    assert not re.search(r"[{}]", text)


def test_the_card_counts_the_draws_of_every_leg_and_opening() -> None:
    first = {"world": {"backbone": SMALL, "adapters": {}}, "sources": {"sounds": 1.0, "series": 1.0}, "batch": 10}
    opened = build(Recipe, {**first, "steps": 6, "opening": [{"steps": 2, "sources": {"series": 2.0}}]})
    last = build(Recipe, {"start": "nano", "sources": {"scenes": 3.0, "sounds": 1.0}, "batch": 5, "steps": 8})
    assert card._draws([opened, last]) == {"series": 20 + 20, "sounds": 20 + 10, "scenes": 30}


def test_the_card_is_put_beside_the_weights(model: Path) -> None:
    path = card.write(report(), legs(CONFIGS / "nano.yaml"), model)
    assert path == model / "README.md"
    assert "# mmworld-nano" in path.read_text()


def test_the_card_says_of_the_head_what_its_file_says(model: Path) -> None:
    assert card.head(model) == ""
    if not SHIPPED["nano"].is_dir():
        pytest.skip("nano is not part of this checkout")
    told = card.head(SHIPPED["nano"])
    assert "listen/speak head" in told
    assert told in (SHIPPED["nano"] / card.CARD).read_text()


def test_the_table_has_a_row_a_score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    said = Told(["a person is boxing"] * 5)
    scores = (*nano.held_out.activities(said, recordings([2.5] * 5)), share("scenes", "objects", [True], 0.9))
    nano.show(nano.Report("m", "r", tuple(scores), {"radhar": 3.0, "scenes": 1.0}, {}))
    shown = capsys.readouterr().out
    assert re.search(r"radhar.*0\.200.*≥ 0\.940.*no.*chance 0\.200", shown)
    assert re.search(r"scenes.*1\.000.*≥ 0\.900.*yes", shown)
