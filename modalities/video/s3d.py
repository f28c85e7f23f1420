"""S3D-G (Xie et al. 2018) as MIL-NCE trained it on HowTo100M (Miech et al. 2020): a second of film to what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.weights.checkpoint import load_pickled
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import batch_norm
from mmworld.weights.released import filled
from mmworld.weights.sizes import Width

Even = Annotated[int, Field(gt=0, le=4096, multiple_of=2)]
Widths = tuple[Width, Width, Width, Width, Width, Width]
NAMES = "3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"
"""The blocks, by the map that they are of."""
BLOCKS: tuple[Widths, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


@config
class S3DConfig:
    """
    Attributes:
        num_classes: numbers of a second.
        fps, image_size: of the film: frames a second, and the side of their squares.
        stem: channels before the blocks.
        blocks: channels of each block: those of its first branch, the inner and outer ones of the two that look
            around, those of the pooled one.
    """

    num_classes: Width = 512
    fps: Even = 30
    image_size: Even = 224
    stem: tuple[Width, Width] = (64, 192)
    blocks: tuple[Widths, ...] = BLOCKS

    def __post_init__(self) -> None:
        if len(self.blocks) != len(NAMES):
            raise ValueError(f"{len(self.blocks)} blocks, {len(NAMES)} are wanted")


class Conv(nn.Module):
    """A convolution over (time, height, width) without bias, its batch norm, and ReLU."""

    def __init__(
        self, c_in: int, c_out: int, kernel: tuple[int, int, int] = (1, 1, 1), padding: tuple[int, int, int] = (0, 0, 0)
    ) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(c_in, c_out, kernel, padding=padding, bias=False), nn.BatchNorm3d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Gate(nn.Module):
    """Each channel weighted by what all say of the whole film (Xie et al., section 4.4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.project(x.mean((2, 3, 4))).sigmoid()[..., None, None, None]


def around(c_in: int, c_out: int) -> list[nn.Module]:
    """A convolution of 3 x 3 x 3, apart in space and in time, and its gate."""
    space, time = Conv(c_in, c_out, (1, 3, 3), (0, 1, 1)), Conv(c_out, c_out, (3, 1, 1), (1, 0, 0))
    return [space, time, Gate(c_out)]


class Inception(nn.Module):
    """Four branches beside each other (Xie et al., figure 10), each with a gate at its end."""

    def __init__(self, c_in: int, widths: Widths) -> None:
        super().__init__()
        alone, into1, out1, into2, out2, pooled = widths
        self.branches = nn.ModuleList(
            (
                nn.Sequential(Conv(c_in, alone), Gate(alone)),
                nn.Sequential(Conv(c_in, into1), *around(into1, out1)),
                nn.Sequential(Conv(c_in, into2), *around(into2, out2)),
                nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), Conv(c_in, pooled), Gate(pooled)),
            )
        )
        self.dim = alone + out1 + out2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Pool(nn.Module):
    """The largest of every `kernel` numbers at `stride`; what is missing at an end is zero, more of it at the later
    end, as TensorFlow pads."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        lacks = [k - s for k, s in zip(reversed(self.kernel), reversed(self.stride), strict=True)]
        x = F.pad(x, [n for lack in lacks for n in (lack // 2, lack - lack // 2)])
        return F.max_pool3d(x, self.kernel, self.stride, ceil_mode=True)


class S3D(nn.Module):
    """A film encoder that is not trained further: its batch norms keep the statistics they have.

    Args:
        source: what config.json says of it.

    Raises:
        ConfigError: a value is of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        c = self.config = pick(S3DConfig, source or {}, where="config.json: s3d_config")
        first, second = c.stem
        self.stem = Conv(8 * 3, first, (2, 4, 4), (1, 2, 2))
        self.front = nn.Sequential(
            Pool((1, 3, 3), (1, 2, 2)), Conv(first, first), *around(first, second), Pool((1, 3, 3), (1, 2, 2))
        )
        self.blocks, dim = nn.ModuleList(), second
        for widths in c.blocks:
            self.blocks.append(block := Inception(dim, widths))
            dim = block.dim
        self.pools = nn.ModuleDict({"3c": Pool((3, 3, 3), (2, 2, 2)), "4f": Pool((2, 2, 2), (2, 2, 2))})
        self.head = nn.Linear(dim, c.num_classes)
        self.train(False)

    def train(self, mode: bool = True) -> S3D:
        return super().train(False)

    def forward(self, frames: Tensor) -> Tensor:
        """Films [B, 3, T, H, W] from 0 to 1 to [B, E], in the space where MIL-NCE compares films and texts.

        Raises:
            ValueError: T, H or W is odd.
        """
        x = self.front(self.stem(folded(frames))[:, :, 1:, 1:, 1:])  # its padding is one more than it needs
        for name, block in zip(NAMES, self.blocks, strict=True):
            x = block(x)
            x = self.pools[name](x) if name in self.pools else x
        return self.head(x.mean((2, 3, 4)))

    @classmethod
    def load(cls, path: Path | str, source: Mapping[str, Any] | None = None) -> S3D:
        """The weights that antoine77340/S3D_HowTo100M released, a pickle that is read as tensors alone.

        Args:
            source: sizes, if they are not the released ones.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
        """
        return filled(cls(source), load_pickled(path), where=str(path))

    @property
    def keymap(self) -> KeyMap:
        """Of antoine77340/S3D_HowTo100M's names; its texts' words are left out."""
        table: dict[str, Place] = {"head.*": "fc.*", "front.4.project.*": "gating.fc.*", **_conv("stem", "conv1")}
        table |= _conv("front.1", "conv_2b") | _conv("front.2", "conv_2c") | _conv("front.3", "conv_2c", 2)
        for i, name in enumerate(NAMES):
            table |= _block(f"blocks.{i}.branches", f"mixed_{name}")
        texts = "word_embd.weight", "fc1.*", "fc2.*"
        return KeyMap(table, unused=tuple(f"text_module.{n}" for n in texts))


def folded(frames: Tensor) -> Tensor:
    """Films [B, C, T, H, W] at half the size in time and space, eight neighbours as channels; ValueError if a size is
    odd."""
    b, c, *sizes = frames.shape
    if any(n % 2 for n in sizes):
        raise ValueError(f"a film of {' x '.join(map(str, sizes))}: frames, height and width must be even")
    t, h, w = (n // 2 for n in sizes)
    x = frames.reshape(b, c, t, 2, h, 2, w, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return x.reshape(b, 8 * c, t, h, w)


@dataclass(frozen=True)
class Seconds:
    """A film as it is shown to S3D: cut into seconds, the last one filled up with black.

    Attributes:
        fps: frames in a second of the film that is given.
    """

    fps: int

    def __call__(self, frames: Tensor) -> Tensor:
        """uint8 [T, 3, H, W] to float32 [N, 3, fps, H, W] from 0 to 1."""
        x = F.pad(frames, (0, 0) * 3 + (0, -len(frames) % self.fps)) / 255
        return x.unflatten(0, (-1, self.fps)).transpose(1, 2)


def _conv(ours: str, theirs: str, part: int = 1) -> dict[str, Place]:
    return {f"{ours}.conv.weight": f"{theirs}.conv{part}.weight", **batch_norm(f"{ours}.norm", f"{theirs}.bn{part}")}


def _block(ours: str, theirs: str) -> dict[str, Place]:
    table = _conv(f"{ours}.0.0", f"{theirs}.conv_b0") | _conv(f"{ours}.3.1", f"{theirs}.conv_b3_b")
    for i in (1, 2):
        table |= _conv(f"{ours}.{i}.0", f"{theirs}.conv_b{i}_a")
        table |= _conv(f"{ours}.{i}.1", f"{theirs}.conv_b{i}_b") | _conv(f"{ours}.{i}.2", f"{theirs}.conv_b{i}_b", 2)
    gates = enumerate((1, 3, 3, 2))
    return table | {f"{ours}.{i}.{at}.project.*": f"{theirs}.gating_b{i}.fc.*" for i, at in gates}
