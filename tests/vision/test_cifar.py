"""The released ResNet-20 sees in real photographs what it is known to see."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from mmworld.errors import CheckpointError
from mmworld.train.real import pixels
from mmworld.train.shards import samples
from mmworld.vision.cifar import CifarResNet, normalise


@torch.no_grad()
def test_resnet_20_names_the_photographs_that_it_is_known_to_name(shared_data: Path) -> None:
    model = CifarResNet.load(shared_data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th")
    shown = list(samples(shared_data / "eval" / "cifar10" / "cifar10-test-1000.tar"))
    pictures = torch.stack([torch.from_numpy(pixels(s["jpg"], 32)) for s in shown])
    true = torch.tensor([int(s["cls"]) for s in shown])
    right = model(normalise(pictures)).argmax(-1) == true
    assert len(right) == 1000
    assert float(right.float().mean()) == pytest.approx(0.804, abs=0.0015)


def test_a_block_is_the_paper_s(shared_data: Path) -> None:
    """Option A written out: the input at every second pixel, its channels in the middle of twice as many."""
    model = CifarResNet.load(shared_data / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th").double()
    block, x = model.stages[1][0], torch.randn(1, 16, 8, 8, dtype=torch.float64)
    shortcut = torch.zeros(1, 32, 4, 4, dtype=torch.float64)
    shortcut[:, 8:24] = x[:, :, ::2, ::2]
    assert torch.allclose(block(x), (shortcut + block.branch(x)).clamp(min=0))


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.th").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"evil\.th: not read"):
        CifarResNet.load("evil.th")
    assert not Path("ran").exists()
    torch.save([1, 2], "list.th")
    with pytest.raises(CheckpointError, match=r"list\.th: holds a list"):
        CifarResNet.load("list.th")
    torch.save({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, "other.th")
    with pytest.raises(CheckpointError, match=r"other\.th: missing: "):
        CifarResNet.load("other.th")
    with pytest.raises(CheckpointError, match=r"none\.th: No such file"):
        CifarResNet.load("none.th")
