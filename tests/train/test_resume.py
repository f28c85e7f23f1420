"""A run that is cut short and resumed ends with the same weights (rows C11 and R1 to R3 of the contracts)."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mmworld.errors import CheckpointError, ConfigError, ResourceError
from mmworld.train import checkpoint
from mmworld.train.batches import Batches
from mmworld.train.fit import run
from mmworld.weights.checkpoint import load_safetensors

pytest.importorskip("lightning")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    held = checkpoint.newest(folder)
    assert held is not None
    assert held[0] == 12
    return held[1]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


START = "import sys; from mmworld.train import run; run(sys.argv[1], sys.argv[2:])"


def start(recipe: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own, and that in a group of its own."""
    command = [sys.executable, "-c", START, str(recipe), *overrides]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


def cut(out: Path, kill: signal.Signals, child: subprocess.Popen[bytes]) -> None:
    """Send `kill` to the run's group once there is a checkpoint more, and see how it ends."""
    before = len(checkpoint.found(out))
    while not (out / "model.safetensors").exists() and child.poll() is None:
        if len(checkpoint.found(out)) > before:
            break
        time.sleep(0.01)
    os.killpg(child.pid, kill)  # as a terminal or a service manager does: the batches' process hears it too
    _, said = child.communicate()
    assert child.returncode == (0 if kill == signal.SIGTERM else -kill), said


@pytest.fixture
def whole(recipe: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    """What the run ends with when nothing happens to it."""
    return weights(run(recipe, [f"out={tmp_path / 'whole'}"]))


def test_a_run_in_parts_ends_with_the_same_weights(
    recipe: Path, tmp_path: Path, whole: dict[str, torch.Tensor]
) -> None:
    parts = 0
    while not (tmp_path / "run" / "model.safetensors").exists():
        run(recipe, ["max_hours=1.0e-9", "save_every=1000"])
        parts += 1
    assert parts == 12
    assert same(weights(tmp_path / "run"), whole)


def test_two_processes_that_are_stopped_and_killed_end_with_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    child = start(recipe, "processes=2", f"out={whole}")
    _, said = child.communicate()
    assert child.returncode == 0, said
    for kill in (signal.SIGTERM, signal.SIGKILL):
        cut(out, kill, start(recipe, "processes=2", "save_every=1"))
    _, said = start(recipe, "processes=2").communicate()
    assert same(weights(out), weights(whole)), said


def test_a_killed_run_ends_with_the_same_weights(recipe: Path, tmp_path: Path, whole: dict[str, torch.Tensor]) -> None:
    out = tmp_path / "run"
    for kill in (signal.SIGKILL, signal.SIGTERM):
        cut(out, kill, start(recipe))
    run(recipe)
    assert same(weights(out), whole)


def test_a_run_within_a_process_of_another_program_stops_when_told(recipe: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=run, args=(recipe, ["save_every=1", "steps=100000"]))
    child.start()
    while not checkpoint.found(tmp_path / "run") and child.is_alive():
        time.sleep(0.01)
    child.terminate()
    child.join(60)
    assert child.exitcode == 0


def test_a_run_one_of_whose_processes_is_killed_ends_and_says_so(recipe: Path, tmp_path: Path) -> None:
    child = start(recipe, "processes=2", "save_every=1", "steps=100000")
    while not checkpoint.found(tmp_path / "run") and child.poll() is None:
        time.sleep(0.01)
    ranks = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, said = child.communicate()
    assert child.returncode == 1
    assert re.search(rb"ResourceError: .*run: process \d of the run: .*", said), said
    assert b"goes on from the last checkpoint" in said


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    recipe: Path, tmp_path: Path, whole: dict[str, torch.Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    out = run(recipe)
    older, newer = checkpoint.found(out)
    data = bytearray(newer.read_bytes())
    data[len(data) // 2] ^= 1
    newer.write_bytes(data)
    run(recipe)
    assert f"{newer}: damaged" in caplog.text
    assert older.exists()
    assert same(weights(out), whole)


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, 1, {"x": torch.ones(3)})
    cut = checkpoint.write(tmp_path, 2, {"x": torch.zeros(3)})
    cut.write_bytes(cut.read_bytes()[:-1])
    held = checkpoint.newest(tmp_path)
    assert held is not None
    assert (held[0], held[1]["x"].tolist()) == (1, [1, 1, 1])


def test_a_full_disk_leaves_the_checkpoints_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write(tmp_path, 1, {"x": torch.ones(3)})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left"):
        checkpoint.write(tmp_path, 2, {"x": torch.zeros(3)})
    assert [p.name[:13] for p in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_a_loss_that_is_not_finite_is_skipped_or_ends_the_run(
    recipe: Path, tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmworld.train import module

    sound, calls = module.losses, iter(range(12))

    def faulty(*args: Any) -> tuple[torch.Tensor, ...]:
        each, *others = sound(*args)
        return each / (0.0 if next(calls) == 3 else 1.0), *others

    monkeypatch.setattr(module, "losses", faulty)
    if policy == "stop":
        with pytest.raises(ResourceError, match=r"step 3: .* not finite"):
            run(recipe, ["on_nan=stop"])
    else:
        held = weights(run(recipe))
        assert all(bool(x.isfinite().all()) for x in held.values())
        assert float(held["optimizer/world.embedding/step"]) == 11
    notes = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    (skipped,) = [n for n in notes if "skipped" in n]
    assert skipped["skipped"] == 3
    assert len(skipped["captions"]) == 3


def test_a_run_is_not_resumed_by_another_recipe(recipe: Path) -> None:
    run(recipe, ["max_hours=1.0e-9"])
    with pytest.raises(ConfigError, match="another seed"):
        run(recipe, ["seed=1"])


def test_steps_may_change_while_the_learning_rate_is_level(recipe: Path, tmp_path: Path) -> None:
    run(recipe, ["max_hours=1.0e-9", "steps=40"])
    run(recipe)
    run(recipe, [f"out={tmp_path / 'whole'}"])
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="another steps"):
        run(recipe, ["steps=40"])


# --- a run that begins with a model


def exported(folder: Path) -> dict[str, torch.Tensor]:
    return load_safetensors(folder / "model.safetensors")


@pytest.fixture
def second(recipe: Path) -> Path:
    """A recipe that goes on from what `recipe` gives."""
    path = recipe.with_name("second.yaml")
    plain = yaml.safe_load(recipe.read_text())
    del plain["world"]
    path.write_text(yaml.safe_dump({**plain, "start": recipe.name, "seed": 1, "out": str(recipe.parent / "second")}))
    return path


def test_a_model_trained_further_at_rate_zero_is_that_model(recipe: Path, second: Path) -> None:
    folder = run(recipe)
    same_folder = run(second, [f"start={folder}", "learning_rate=0.0"])
    assert same(exported(same_folder), exported(folder))
    assert (same_folder / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_a_run_after_another_s_is_that_from_its_model_however_it_is_cut(
    recipe: Path, second: Path, tmp_path: Path
) -> None:
    by_hand = run(second, [f"start={run(recipe)}", f"out={tmp_path / 'by_hand'}"])
    parts = 0
    while not (tmp_path / "second" / "model.safetensors").exists():
        run(second, ["max_hours=1.0e-9"])
        parts += 1
    assert parts in (23, 24)  # 12 steps of each; in the part that ends the first, the second may do one
    assert same(exported(tmp_path / "second"), exported(by_hand))
    assert not same(exported(tmp_path / "second"), exported(tmp_path / "second" / "start"))


def test_a_run_from_a_model_depends_on_its_seed_alone(recipe: Path, second: Path, tmp_path: Path) -> None:
    folder = run(recipe)
    ended = []
    for seed in (5, 6):
        torch.manual_seed(seed)  # of the program around it
        ended.append(exported(run(second, [f"start={folder}", f"out={tmp_path / str(seed)}"])))
    assert same(*ended)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("start=null", "needs either world or start"),
        ("world={backbone: {dim: 16, depth: 1, n_heads: 2, hidden: 16}, adapters: {}}", "needs either world or start"),
        ("start=second.yaml", "second.yaml: starts with itself"),
        ("start=other.yaml", "other.yaml: No such file"),
    ],
)
def test_what_a_run_begins_with_is_one_thing_that_is_there(second: Path, wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(second, [wrong])


def test_a_start_that_is_no_model_is_named(second: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model 'nanno'.*did you mean 'nano'"):
        run(second, ["start=nanno"])


# --- batches


def rendered(shares: dict[str, float], size: int, opening: dict[str, float] | None = None) -> Batches:
    """Batches of the given shares, after two of those of `opening`."""
    from mmworld.render import series, sounds
    from mmworld.text.tokenizer import Tokenizer

    sources = {"sounds": sounds.clip, "series": series.clip}
    tokenizer = Tokenizer.train([d(np.random.default_rng(0)).caption for d in sources.values()], 300)
    return Batches(sources, lambda k: opening if opening and k < 2 else shares, tokenizer, 7, size)


def test_the_processes_parts_make_up_the_batch() -> None:
    batches = rendered({"sounds": 1.0, "series": 1.0}, 12)
    parts = [batches(3, rank, 3) for rank in range(3)]
    assert sorted(e.caption for p in parts for e in p) == sorted(e.caption for e in batches(3))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    counts = [sum(e.source == "series" for e in p) for p in parts]
    assert max(counts) - min(counts) <= 1


def test_the_first_batches_are_drawn_from_the_opening() -> None:
    batches = rendered({"sounds": 1.0, "series": 1.0}, 8, opening={"series": 1.0})
    sources = [{e.source for e in batches(k)} for k in range(4)]
    assert sources == [{"series"}] * 2 + [{"sounds", "series"}] * 2


def test_a_run_opens_with_the_shares_it_is_told_to(recipe: Path, tmp_path: Path) -> None:
    run(recipe, ["opening=[{steps: 3, sources: {series: 1.0}}, {steps: 3, sources: {sounds: 2.0}}]"])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    drawn = {line["step"]: set(line["sources"]) for line in lines if "step" in line}
    assert drawn == {3: {"series"}, 6: {"sounds"}, 9: {"series", "sounds"}, 12: {"series", "sounds"}}


@pytest.mark.parametrize("wrong", ["{steps: 3, sources: {scenes: 1.0}}", "{sources: {series: 1.0}}", "{steps: 0}"])
def test_an_opening_has_steps_and_sources_of_the_recipe(recipe: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match="opening"):
        run(recipe, [f"opening=[{wrong}]"])


def test_batch_k_depends_on_seed_and_k_alone() -> None:
    batches = rendered({"sounds": 1.0, "series": 3.0}, 16)
    a, _, b, other = batches(5), batches(2), batches(5), batches(6)
    assert [e.caption for e in a] == [e.caption for e in b] != [e.caption for e in other]
    assert all(torch.equal(x.item.chunks[0].data, y.item.chunks[0].data) for x, y in zip(a, b, strict=True))
    share = np.mean([e.source == "series" for k in range(40) for e in batches(k)])
    assert share == pytest.approx(0.75, abs=0.07)
