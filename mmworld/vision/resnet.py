"""ResNet (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.types import Takes
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import batch_norm
from mmworld.weights.sizes import Depth, Width


@config
class ResNetConfig:
    """What config.json says under these names."""

    model_type: Literal["resnet"]
    embedding_size: Width = 64
    hidden_sizes: tuple[Width, ...] = (256, 512, 1024, 2048)
    depths: tuple[Depth, ...] = (3, 4, 6, 3)
    layer_type: Literal["basic", "bottleneck"] = "bottleneck"
    num_channels: Width = 3
    hidden_act: Literal["relu"] = "relu"
    downsample_in_first_stage: bool = False
    downsample_in_bottleneck: bool = False

    def __post_init__(self) -> None:
        if len(self.hidden_sizes) != len(self.depths):
            raise ValueError(f"{len(self.hidden_sizes)} hidden_sizes for {len(self.depths)} depths")


class Conv(nn.Module):
    """A convolution without bias, its batch norm, and ReLU unless it ends a branch."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, *, ends: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm, self.ends = nn.BatchNorm2d(c_out), ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return x if self.ends else F.relu(x)


class Block(nn.Module):
    """Convolutions beside a shortcut (figure 5): two of 3 x 3, or a bottleneck of 1 x 1, 3 x 3 and 1 x 1.

    Args:
        early: whether the bottleneck's first convolution takes the stride, as in the paper, or its second.
    """

    def __init__(self, kind: str, c_in: int, c_out: int, stride: int, *, early: bool) -> None:
        super().__init__()
        if kind == "basic":
            parts = [Conv(c_in, c_out, 3, stride), Conv(c_out, c_out, 3, ends=True)]
        else:
            c, (one, three) = c_out // 4, (stride, 1) if early else (1, stride)
            parts = [Conv(c_in, c, 1, one), Conv(c, c, 3, three), Conv(c, c_out, 1, ends=True)]
        self.branch = nn.Sequential(*parts)
        self.shortcut = Conv(c_in, c_out, 1, stride, ends=True) if c_in != c_out or stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class ResNet(nn.Module):
    """A picture encoder: stages of residual blocks, each at half the size of the one before.

    The architecture that config.json names decides what stands at the end: `ResNetForImageClassification` has scores of
    the classes that `id2label` names.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ResNetConfig, source, where="config.json")
        self.config = c
        self.stem = Conv(c.num_channels, c.embedding_size, 7, 2)
        widths = (c.embedding_size, *c.hidden_sizes)
        self.stages = nn.Sequential(
            *(
                self._stage(i, c_in, c_out, depth)
                for i, ((c_in, c_out), depth) in enumerate(zip(pairwise(widths), c.depths, strict=True))
            )
        )
        classifies = "ResNetForImageClassification" in (source.get("architectures") or ())
        self.head = nn.Linear(widths[-1], len(source.get("id2label") or range(2))) if classifies else None

    def _stage(self, i: int, c_in: int, c_out: int, depth: int) -> nn.Sequential:
        c, stride = self.config, 2 if i or self.config.downsample_in_first_stage else 1
        first = Block(c.layer_type, c_in, c_out, stride, early=c.downsample_in_bottleneck)
        rest = (Block(c.layer_type, c_out, c_out, 1, early=False) for _ in range(depth - 1))
        return nn.Sequential(first, *rest)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to maps [B, D, H / 32, W / 32] (with four stages)."""
        return self.stages(F.max_pool2d(self.stem(pixels), 3, 2, padding=1))

    def pool(self, x: Tensor) -> Tensor:
        """Maps [B, D, H, W] to what stands for each picture [B, D], or to the scores of its classes [B, K]."""
        pooled = x.mean((2, 3))
        return pooled if self.head is None else self.head(pooled)

    @property
    def keymap(self) -> KeyMap:
        """Of `ResNetModel`'s names."""
        table: dict[str, Place] = {"head.*": "classifier.1.*"}
        root = "" if self.head is None else "resnet."
        at, ours = f"{root}encoder.stages.{{i}}.layers.{{i}}", "stages.{i}.{i}"
        for mine, theirs in (
            ("stem", f"{root}embedder.embedder"),
            (f"{ours}.branch.{{i}}", f"{at}.layer.{{i}}"),
            (f"{ours}.shortcut", f"{at}.shortcut"),
        ):
            table[f"{mine}.conv.weight"] = f"{theirs}.convolution.weight"
            table |= batch_norm(f"{mine}.norm", f"{theirs}.normalization")
        return KeyMap(table)
