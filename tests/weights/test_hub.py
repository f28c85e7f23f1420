"""Models by their name on the hub: out of its cache, and never anything but data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmworld.models.zoo import save
from mmworld.text.llama import Llama
from mmworld.weights.hub import ID

pytest.importorskip("huggingface_hub")
TINY = {"model_type": "llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
TINY |= {"num_attention_heads": 2}
LOAD = (
    "import sys, mmworld; print(mmworld.load(sys.argv[1], revision=sys.argv[2] or None).embedding.weight.sum().item())"
)


@pytest.fixture
def cache(tmp_path: Path) -> tuple[Path, Llama]:
    """A cache as huggingface-hub keeps it, with one model of one commit."""
    torch.manual_seed(0)
    model, commit = Llama(TINY), "a" * 40
    home = tmp_path / "hub" / "models--someone--tiny"
    save(model, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return tmp_path, model


def run(home: Path, name: str, revision: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", LOAD, name, revision], capture_output=True, text=True, env=env)


def test_a_model_in_the_cache_is_read_without_a_network(cache: tuple[Path, Llama]) -> None:
    home, model = cache
    done = run(home, "someone/tiny")
    assert float(done.stdout) == pytest.approx(float(model.embedding.weight.sum()), rel=1e-6), done.stderr


def test_what_is_not_in_the_cache_is_said_in_one_line(cache: tuple[Path, Llama]) -> None:
    home, _ = cache
    for name, revision in (("someone/other", ""), ("someone/tiny", "v2")):
        done = run(home, name, revision)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "CheckpointError" in last
        assert f"no folder '{name}'" in last


@pytest.mark.parametrize("name", ["a/b/c", "/a/b", "../b", "a", "a//b", "a/", "~/b", "a b/c"])
def test_paths_are_no_names_of_the_hub(name: str) -> None:
    assert not ID.fullmatch(name)
