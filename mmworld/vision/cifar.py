"""The small ResNets of CIFAR-10 (He et al. 2016, section 4.2)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.vision.resnet import Conv
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.released import fill

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the channels, as the released weights were trained on them."""


class Block(nn.Module):
    """Two convolutions beside a shortcut without weights: every other pixel, new channels zero (option A)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.stride, self.spare = c_out // c_in, c_out - c_in
        self.branch = nn.Sequential(Conv(c_in, c_out, 3, self.stride), Conv(c_out, c_out, 3, ends=True))

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.relu(self.branch(x) + F.pad(kept, (0, 0, 0, 0, self.spare // 2, self.spare // 2)))


class CifarResNet(nn.Module):
    """Pictures of 32 x 32 pixels through three stages of n blocks, 6n + 2 layers in all.

    Args:
        n: blocks a stage; 3 is ResNet-20.
        classes: K.
    """

    def __init__(self, n: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.stem = Conv(3, 16)
        widths = ((16, 16), (16, 32), (32, 64))
        self.stages = nn.Sequential(
            *(nn.Sequential(Block(a, b), *(Block(b, b) for _ in range(n - 1))) for a, b in widths)
        )
        self.head = nn.Linear(64, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, 32, 32] to the scores of their classes [B, K]."""
        return self.head(self.stages(self.stem(pixels)).mean((2, 3)))

    @classmethod
    def load(cls, path: Path | str, n: int = 3) -> CifarResNet:
        """The weights that akamaster/pytorch_resnet_cifar10 released, a pickle that is read as tensors alone.

        Raises:
            CheckpointError: the file is missing, holds more than tensors, or other ones.
        """
        return fill(cls(n), path, "state_dict")

    @property
    def keymap(self) -> KeyMap:
        """Of akamaster/pytorch_resnet_cifar10's names."""
        table: dict[str, Place] = {"head.*": "module.linear.*"}
        for mine, conv, norm in (
            ("stem", "module.conv1", "module.bn1"),
            *(
                (
                    f"stages.{s}.{{i}}.branch.{k}",
                    f"module.layer{s + 1}.{{i}}.conv{k + 1}",
                    f"module.layer{s + 1}.{{i}}.bn{k + 1}",
                )
                for s in range(3)
                for k in range(2)
            ),
        ):
            table |= {f"{mine}.conv.weight": f"{conv}.weight"}
            table |= {f"{mine}.norm.{p}": f"{norm}.{p}" for p in ("*", "running_mean", "running_var")}
        counts = "stem.norm.num_batches_tracked", "stages.{i}.{i}.branch.{i}.norm.num_batches_tracked"
        return KeyMap(table, fresh=counts)


def normalise(pictures: Tensor) -> Tensor:
    """uint8 [B, 3, 32, 32] as the released weights take them."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (MEAN, STD))
    return (pictures / 255 - mean) / std
