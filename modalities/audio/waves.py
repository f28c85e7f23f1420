"""What wav2vec 2.0 (Baevski et al. 2020) and its kin make of samples, before their transformers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F


class WaveConvs(nn.Module):
    """Convolutions over samples (section 2, feature encoder), the first one's channels normed over all of a sound.

    Args:
        widths: channels after each convolution.
        kernels, strides: of each, in steps of the one before it.
        bias: whether the convolutions have one.

    Attributes:
        shortest: samples that make one step.
    """

    def __init__(self, widths: Sequence[int], kernels: Sequence[int], strides: Sequence[int], *, bias: bool) -> None:
        super().__init__()
        sizes = zip(pairwise((1, *widths)), kernels, strides, strict=True)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, kernel, stride, bias=bias) for (a, b), kernel, stride in sizes)
        self.norm = nn.GroupNorm(widths[0], widths[0])
        self.shortest = 1
        for kernel, stride in reversed(list(zip(kernels, strides, strict=True))):
            self.shortest = (self.shortest - 1) * stride + kernel

    def forward(self, samples: Tensor) -> Tensor:
        """Samples [B, S] to steps [B, T, C]; ValueError if there are fewer than `shortest`."""
        if samples.shape[1] < self.shortest:
            raise ValueError(f"{samples.shape[1]} samples, the shortest sound that can be heard has {self.shortest}")
        x = samples[:, None]
        for i, conv in enumerate(self.convs):
            x = conv(x)
            x = F.gelu(self.norm(x) if i == 0 else x)
        return x.mT


class PlaceConv(nn.Module):
    """What says where a step stands: a convolution of those around it (section 2, contextualized representations).

    Args:
        dim: width D.
        kernel: steps that it sees.
        groups: of channels.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] to [B, T, D]."""
        return F.gelu(self.conv(x.mT)[..., : x.shape[1]]).mT
