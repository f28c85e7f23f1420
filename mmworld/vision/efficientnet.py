"""EfficientNet (Tan & Le 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.types import Takes
from mmworld.vision.preprocess import Preprocess
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import batch_norm
from mmworld.weights.sizes import Depth, Width

Scale = Annotated[float, Field(gt=0, le=100)]
BLOCKS = 1024
STAGES = "kernel_sizes", "in_channels", "out_channels", "strides", "num_block_repeats", "expand_ratios"


@config
class EfficientNetConfig:
    """What config.json says under these names; ALIGN's pictures go through one, too.

    Raises:
        ValueError: the lists of stages differ in length, or they come to too many blocks.
    """

    model_type: Literal["efficientnet", "align_vision_model"]
    num_channels: Width = 3
    width_coefficient: Scale = 2.0
    depth_coefficient: Scale = 3.1
    depth_divisor: Width = 8
    kernel_sizes: tuple[Width, ...] = (3, 3, 5, 3, 5, 5, 3)
    in_channels: tuple[Width, ...] = (32, 16, 24, 40, 80, 112, 192)
    out_channels: tuple[Width, ...] = (16, 24, 40, 80, 112, 192, 320)
    depthwise_padding: tuple[int, ...] = ()
    strides: tuple[Literal[1, 2], ...] = (1, 2, 2, 2, 1, 2, 1)
    num_block_repeats: tuple[Depth, ...] = (1, 2, 2, 3, 3, 4, 1)
    expand_ratios: tuple[Width, ...] = (1, 6, 6, 6, 6, 6, 6)
    squeeze_expansion_ratio: Scale = 0.25
    hidden_act: Literal["swish", "silu"] = "swish"
    hidden_dim: Width = 2560
    pooling_type: Literal["mean", "max"] = "mean"
    batch_norm_eps: float = 1e-3

    def __post_init__(self) -> None:
        if not self.strides or len({len(getattr(self, name)) for name in STAGES}) > 1:
            raise ValueError(f"{', '.join(STAGES)} must be equally long")
        if (blocks := sum(map(self.deep, self.num_block_repeats))) > BLOCKS:
            raise ValueError(f"{blocks} blocks, at most {BLOCKS}")

    def wide(self, channels: int) -> int:
        """So many channels scaled in width (eq. 3): a multiple of the divisor, and no more than a tenth too few."""
        wanted, step = channels * self.width_coefficient, self.depth_divisor
        near = max(step, int(wanted + step / 2) // step * step)
        return near + step if near < 0.9 * wanted else near

    @property
    def dim(self) -> int:
        """Width of the last map; ALIGN has no wider one after the stages."""
        return self.wide(self.out_channels[-1]) if self.model_type == "align_vision_model" else self.hidden_dim

    def deep(self, blocks: int) -> int:
        """So many blocks scaled in depth (eq. 3)."""
        return math.ceil(self.depth_coefficient * blocks)


class Conv(nn.Module):
    """A convolution without bias, its batch norm, and swish unless it ends a branch.

    Args:
        stride: with 2, what does not come out even is padded at the right and the bottom.
        deep: whether each channel is a map of its own.
        square: whether a stride of 2 is padded on all sides alike.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        eps: float,
        *,
        stride: int = 1,
        deep: bool = False,
        square: bool = False,
        ends: bool = False,
    ) -> None:
        super().__init__()
        padding = "same" if stride == 1 else "valid"
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=c_in if deep else 1, bias=False)
        before = kernel // 2 if square else kernel // 2 - 1
        self.pad = nn.ZeroPad2d((before, kernel // 2) * 2) if stride > 1 else nn.Identity()
        self.norm, self.ends = nn.BatchNorm2d(c_out, eps), ends

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(self.pad(x)))
        return x if self.ends else F.silu(x)


class Squeeze(nn.Module):
    """Each channel weighted by what all say of the whole map (Hu et al. 2018, eq. 3)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(dim, hidden, 1), nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class Block(nn.Module):
    """Wide, deep, squeezed, narrow: an inverted bottleneck (Sandler et al. 2018), beside a shortcut but for the first
    of its stage."""

    def __init__(self, c: EfficientNetConfig, stage: int, c_in: int, c_out: int, *, first: bool, square: bool) -> None:
        super().__init__()
        ratio, eps, self.first = c.expand_ratios[stage], c.batch_norm_eps, first
        wide, kernel, stride = c_in * ratio, c.kernel_sizes[stage], c.strides[stage] if first else 1
        self.expand = Conv(c_in, wide, 1, eps) if ratio != 1 else nn.Identity()
        self.deep = Conv(wide, wide, kernel, eps, stride=stride, deep=True, square=square)
        self.squeeze = Squeeze(wide, max(1, int(c_in * c.squeeze_expansion_ratio)))
        self.project = Conv(wide, c_out, 1, eps, ends=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.deep(self.expand(x))))
        return y if self.first else x + y


class EfficientNet(nn.Module):
    """A picture encoder: stages of inverted bottlenecks, scaled together in width and depth.

    The architecture that config.json names decides what stands at the end: `EfficientNetForImageClassification` has
    scores of the classes that `id2label` names.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(EfficientNetConfig, source, where="config.json")
        self.config = c
        self.stem = Conv(c.num_channels, c.wide(32), 3, c.batch_norm_eps, stride=2)
        self.blocks = nn.Sequential(*_blocks(c))
        before = c.wide(c.out_channels[-1])
        self.top = Conv(before, c.dim, 1, c.batch_norm_eps) if c.model_type == "efficientnet" else nn.Identity()
        classifies = "EfficientNetForImageClassification" in (source.get("architectures") or ())
        self.head = nn.Linear(c.dim, len(source.get("id2label") or range(2))) if classifies else None

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, C, H, W] to maps [B, D, H / 32, W / 32] (with strides as in the paper)."""
        return self.top(self.blocks(self.stem(pixels)))

    def pool(self, x: Tensor) -> Tensor:
        """Maps [B, D, H, W] to what stands for each picture [B, D], or to the scores of its classes [B, K]."""
        pooled = x.mean((2, 3)) if self.config.pooling_type == "mean" else x.amax((2, 3))
        return pooled if self.head is None else self.head(pooled)

    @property
    def keymap(self) -> KeyMap:
        """Of `EfficientNetModel`'s names."""
        root = "" if self.head is None else "efficientnet."
        at = f"{root}encoder.blocks.{{i}}"
        table: dict[str, Place] = {
            "head.*": "classifier.*",
            "blocks.{i}.squeeze.reduce.*": f"{at}.squeeze_excite.reduce.*",
            "blocks.{i}.squeeze.expand.*": f"{at}.squeeze_excite.expand.*",
        }
        for ours, conv, norm in (
            ("stem", f"{root}embeddings.convolution", f"{root}embeddings.batchnorm"),
            ("blocks.{i}.expand", f"{at}.expansion.expand_conv", f"{at}.expansion.expand_bn"),
            ("blocks.{i}.deep", f"{at}.depthwise_conv.depthwise_conv", f"{at}.depthwise_conv.depthwise_norm"),
            ("blocks.{i}.project", f"{at}.projection.project_conv", f"{at}.projection.project_bn"),
            ("top", f"{root}encoder.top_conv", f"{root}encoder.top_bn"),
        ):
            table[f"{ours}.conv.weight"] = f"{conv}.weight"
            table |= batch_norm(f"{ours}.norm", norm)
        return KeyMap(table)


@config
class Scaling:
    """How its pictures are scaled, as a file says under these names: less one, then normalised, then over the deviation
    again where the top is included."""

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    do_normalize: bool = True
    rescale_offset: bool = False
    include_top: bool = True

    @classmethod
    def read(cls, said: dict[str, Any], where: str) -> Preprocess:
        """The steps as one, after the usual resizing; ConfigError if the file lacks one or means another."""
        c = pick(cls, said, where=where)
        mean = [c.rescale_offset + m * c.do_normalize for m in c.image_mean]
        std = [s ** (c.do_normalize + c.include_top) for s in c.image_std]
        return Preprocess.read({**said, "do_normalize": True, "image_mean": mean, "image_std": std}, where)


def _blocks(c: EfficientNetConfig) -> list[Block]:
    """All stages' blocks in a row, as they are counted in `depthwise_padding`."""
    out: list[Block] = []
    for stage, repeats in enumerate(c.num_block_repeats):
        c_in, c_out = c.wide(c.in_channels[stage]), c.wide(c.out_channels[stage])
        for i in range(c.deep(repeats)):
            square = len(out) in c.depthwise_padding
            out.append(Block(c, stage, c_out if i else c_in, c_out, first=not i, square=square))
    return out
