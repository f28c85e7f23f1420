"""HiFi-GAN (Kong et al. 2020): a log-mel spectrogram to the sound that has it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import config, pick
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]


@config
class HifiGanConfig:
    """What config.json says under these names."""

    model_type: Literal["hifigan", "speecht5_hifigan"]
    model_in_dim: Width = 80
    sampling_rate: Width = 16_000
    upsample_initial_channel: Width = 512
    upsample_rates: Widths = (4, 4, 4, 4)
    upsample_kernel_sizes: Widths = (8, 8, 8, 8)
    resblock_kernel_sizes: Widths = (3, 7, 11)
    resblock_dilation_sizes: tuple[Widths, ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    leaky_relu_slope: float = 0.1
    normalize_before: bool = True

    def __post_init__(self) -> None:
        for a, b in (("upsample_rates", "upsample_kernel_sizes"), ("resblock_kernel_sizes", "resblock_dilation_sizes")):
            if len(getattr(self, a)) != len(getattr(self, b)):
                raise ValueError(f"{a} and {b} must have as many values")
        if any(kernel < rate for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True)):
            raise ValueError("upsample_kernel_sizes must be at least upsample_rates")
        if any(kernel % 2 == 0 for kernel in self.resblock_kernel_sizes):
            raise ValueError("resblock_kernel_sizes must be odd")
        if self.upsample_initial_channel % 2 ** len(self.upsample_rates):
            raise ValueError(f"upsample_initial_channel must be a multiple of {2 ** len(self.upsample_rates)}")


class Residual(nn.Module):
    """Pairs of convolutions of one kernel, the first of each dilated (section 2.2)."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.wide = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=d, padding=(kernel - 1) * d // 2) for d in dilations
        )
        self.narrow = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = x + narrow(F.leaky_relu(wide(F.leaky_relu(x, self.slope)), self.slope))
        return x


class HifiGan(nn.Module):
    """A vocoder: transposed convolutions, each before the mean of residual blocks of several kernels (figure 1).

    Args:
        source: what config.json says, of `SpeechT5HifiGan`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(HifiGanConfig, source, where="config.json")
        self.config = c
        widths = [c.upsample_initial_channel >> i for i in range(len(c.upsample_rates) + 1)]
        self.first = nn.Conv1d(c.model_in_dim, widths[0], 7, padding=3)
        steps = list(zip(pairwise(widths), c.upsample_rates, c.upsample_kernel_sizes, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose1d(a, b, k, r, padding=(k - r) // 2) for (a, b), r, k in steps)
        kinds = list(zip(c.resblock_kernel_sizes, c.resblock_dilation_sizes, strict=True))
        self.blocks = nn.ModuleList(Residual(n, *kind, c.leaky_relu_slope) for n in widths[1:] for kind in kinds)
        self.last = nn.Conv1d(widths[-1], 1, 7, padding=3)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(c.model_in_dim))
        self.register_buffer("scale", torch.ones(c.model_in_dim))

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.config.sampling_rate

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel frames [B, T, M] to samples [B, S] in [-1, 1]."""
        c = self.config
        x = self.first(((mel - self.mean) / self.scale if c.normalize_before else mel).mT)
        n = len(c.resblock_kernel_sizes)
        for i, up in enumerate(self.up):
            x = up(F.leaky_relu(x, c.leaky_relu_slope))
            x = sum(block(x) for block in self.blocks[i * n : (i + 1) * n]) / n
        return self.last(F.leaky_relu(x)).tanh()[:, 0]

    @property
    def keymap(self) -> KeyMap:
        """Of `SpeechT5HifiGan`'s names."""
        return KeyMap(
            {
                "first.*": "conv_pre.*",
                "up.{i}.*": "upsampler.{i}.*",
                "blocks.{i}.wide.{i}.*": "resblocks.{i}.convs1.{i}.*",
                "blocks.{i}.narrow.{i}.*": "resblocks.{i}.convs2.{i}.*",
                "last.*": "conv_post.*",
                "mean": "mean",
                "scale": "scale",
            }
        )
