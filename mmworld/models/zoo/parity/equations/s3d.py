"""S3D-G (Xie et al. 2018; Miech et al. 2020): convolutions, pools and gates, offset by offset and window by window."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.equations.pointbert import linear, trained

Sizes = tuple[int, int, int]
NONE: Sizes = (0, 0, 0)


def grown(x: Tensor, before: Sizes, after: Sizes, value: float = 0.0) -> Tensor:
    """A map [C, T, H, W] with so much more of `value` at its beginnings and ends."""
    sizes = [b + n + a for b, n, a in zip(before, x.shape[1:], after, strict=True)]
    t, h, w = (slice(b, b + n) for b, n in zip(before, x.shape[1:], strict=True))
    out = torch.full((len(x), *sizes), value, dtype=x.dtype)
    out[:, t, h, w] = x
    return out


def convolved(weight: Tensor, x: Tensor, before: Sizes, after: Sizes) -> Tensor:
    """y[o, t, h, w] is the sum over i, j, k of weight[o, :, i, j, k] x[:, t + i, h + j, w + k]."""
    x, kernel = grown(x, before, after), weight.shape[2:]
    t, h, w = (n - k + 1 for n, k in zip(x.shape[1:], kernel, strict=True))
    out = torch.zeros(len(weight), t, h, w, dtype=x.dtype)
    for i, j, k in product(*map(range, kernel)):
        out += torch.einsum("oc,cthw->othw", weight[:, :, i, j, k], x[:, i : i + t, j : j + h, k : k + w])
    return out


def unit(part: Any, x: Tensor, before: Sizes = NONE, after: Sizes = NONE) -> Tensor:
    """A convolution, its batch norm and ReLU."""
    y = convolved(part.conv.weight, x, before, after)
    return trained(part.norm, y.movedim(0, -1)).movedim(-1, 0).clamp_min(0)


def largest_of(x: Tensor, kernel: Sizes, stride: Sizes) -> Tensor:
    """Of a map that is never negative, the largest in each window: a window begins every `stride` until the map is
    covered, and one more number after it where windows overlap."""
    out = []
    covered = [max(0, n + (k > s) - k) for n, k, s in zip(x.shape[1:], kernel, stride, strict=True)]
    starts = [[i * s for i in range(-(-n // s) + 1)] for n, s in zip(covered, stride, strict=True)]
    for at in product(*starts):
        t, h, w = (slice(i, i + k) for i, k in zip(at, kernel, strict=True))
        out.append(x[:, t, h, w].flatten(1).amax(1))
    return torch.stack(out, dim=1).unflatten(1, [len(s) for s in starts])


def gated(gate: Any, x: Tensor) -> Tensor:
    share = 1 / (1 + (-linear(gate.project, x.flatten(1).mean(1))).exp())
    return torch.stack([s * channel for s, channel in zip(share, x, strict=True)])


def around(parts: Any, x: Tensor) -> Tensor:
    """3 x 3 in space, then 3 in time, then the gate."""
    space, time, gate = parts
    return gated(gate, unit(time, unit(space, x, (0, 1, 1), (0, 1, 1)), (1, 0, 0), (1, 0, 0)))


def largest_around(x: Tensor) -> Tensor:
    """Of each number and its neighbours, as far as there are any."""
    (t, h, w), wide = x.shape[1:], grown(x, (1, 1, 1), (1, 1, 1), -torch.inf)
    return torch.stack([wide[:, i : i + t, j : j + h, k : k + w] for i, j, k in product(range(3), repeat=3)]).amax(0)


def mixed(block: Any, x: Tensor) -> Tensor:
    alone, first, second, pooled = block.branches
    most = largest_around(x)
    return torch.cat(
        (
            gated(alone[1], unit(alone[0], x)),
            around(first[1:], unit(first[0], x)),
            around(second[1:], unit(second[0], x)),
            gated(pooled[2], unit(pooled[1], most)),
        )
    )


def halved(film: Tensor) -> Tensor:
    """[C, T, H, W] at half the sizes; of each channel the eight neighbours, those of one offset beside each other."""
    return torch.cat([film[:, i::2, j::2, k::2] for i, j, k in product(range(2), repeat=3)])


def encoded(net: Any, film: Tensor) -> Tensor:
    """One film [3, T, H, W] to what stands for it [E]."""
    x = unit(net.stem, halved(film), (0, 1, 1), (1, 2, 2))
    x = largest_of(x, (1, 3, 3), (1, 2, 2))
    x = around(net.front[2:5], unit(net.front[1], x))
    x = largest_of(x, (1, 3, 3), (1, 2, 2))
    for i, block in enumerate(net.blocks):
        x = mixed(block, x)
        if i == 1:
            x = largest_of(x, (3, 3, 3), (2, 2, 2))
        if i == 6:
            x = largest_of(x, (2, 2, 2), (2, 2, 2))
    return linear(net.head, x.flatten(1).mean(1))
