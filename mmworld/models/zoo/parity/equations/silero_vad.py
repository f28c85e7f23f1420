"""Silero's voice activity detector, as the graph of its released file says: sums and loops over single steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmworld.modalities.audio.vad import SileroVAD, VADState
from mmworld.models.zoo.parity.case import Pairs


def tiny(rate: int) -> SileroVAD:
    """A detector of random weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        vad = SileroVAD(rate).double().eval()
        torch.nn.init.normal_(vad.basis, std=0.2)
    return vad


def probabilities(vad: SileroVAD, samples: Tensor) -> Tensor:
    """Of each whole chunk of samples [S], one after the other."""
    cell: Any = vad.lstm.layers[0]
    out: Any = vad.out
    told, h = [], torch.zeros(128, dtype=torch.float64)
    c, before = h, torch.zeros(vad.before, dtype=torch.float64)
    for chunk in samples[: len(samples) // vad.chunk * vad.chunk].split(vad.chunk):
        heard = torch.cat((before, chunk))
        x = _magnitudes(vad, torch.cat((heard, heard[-1 - vad.before : -1].flip(0))))
        for conv, stride in zip(vad.convs, (1, 2, 2, 1), strict=True):
            x = _convolved(conv, x, stride)
        i, f, g, o = (cell.x.weight @ x[0] + cell.x.bias + cell.m.weight @ h).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        told.append(torch.sigmoid(out.weight[0, :, 0] @ h.clamp(min=0) + out.bias[0]))
        before = chunk[-vad.before :]
    return torch.stack(told)


def _magnitudes(vad: SileroVAD, x: Tensor) -> list[Tensor]:
    """Of each window, half of one from the next."""
    hop, n = vad.window // 2, vad.window // 2 + 1
    windows = [x[at : at + vad.window] for at in range(0, len(x) - vad.window + 1, hop)]
    parts = [vad.basis[:, 0] @ w for w in windows]
    return [(p[:n] ** 2 + p[n:] ** 2).sqrt() for p in parts]


def _convolved(conv: Any, x: list[Tensor], stride: int) -> list[Tensor]:
    """Three steps to one, with nothing before the first and after the last."""
    nothing = torch.zeros_like(x[0])
    padded = [nothing, *x, nothing]
    made = [sum(conv.weight[..., k] @ padded[at + k] for k in range(3)) for at in range(0, len(x), stride)]
    return [(y + conv.bias).clamp(min=0) for y in made]


def compare() -> Pairs:
    """At both rates."""
    for rate in (16_000, 8_000):
        vad = tiny(rate)
        samples = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        yield vad(samples, VADState()), probabilities(vad, samples)
