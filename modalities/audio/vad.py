"""Silero's voice activity detector: how likely someone speaks, every 32 ms of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.errors import CheckpointError
from mmworld.nn.lstm import LSTM, LSTMState
from mmworld.weights import onnx
from mmworld.weights.keymap import KeyMap
from mmworld.weights.released import filled

RATES = {16_000: 512, 8_000: 256}
"""Samples a second, and of a chunk."""
BASIS, RNN = "stft.forward_basis_buffer", "decoder.rnn."
WIDTHS = (128, 64, 64, 128)
STRIDES = (1, 2, 2, 1)


@dataclass
class VADState:
    """What the detector remembers: the last samples that it has heard, those of a chunk to come, and its memory."""

    heard: Tensor = field(default_factory=lambda: torch.zeros(0))
    lstm: LSTMState = field(default_factory=LSTMState)

    def fork(self) -> VADState:
        """An independent copy; the tensors are never written in place."""
        return VADState(self.heard, self.lstm.fork())

    def tensors(self) -> dict[str, Tensor]:
        """What it remembers, by name."""
        layers = {f"{i}.{n}": x for i, pair in enumerate(self.lstm.layers) for n, x in zip("cm", pair, strict=True)}
        return {"heard": self.heard, **layers}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> VADState:
        """The state whose `tensors` these are."""
        depth = len(tensors) // 2
        return cls(tensors["heard"], LSTMState([(tensors[f"{i}.c"], tensors[f"{i}.m"]) for i in range(depth)]))


class SileroVAD(nn.Module):
    """Magnitudes of a short Fourier transform, four convolutions, and a recurrent layer that goes through the stream.

    Args:
        rate: 16000 or 8000 samples a second.
    """

    def __init__(self, rate: int = 16_000) -> None:
        super().__init__()
        if rate not in RATES:
            raise ValueError(f"rate must be one of {', '.join(map(str, RATES))}, is {rate}")
        self.rate, self.chunk = rate, RATES[rate]
        self.window, self.before = self.chunk // 2, self.chunk // 8
        n = self.window // 2 + 1
        self.basis = nn.Parameter(torch.zeros(2 * n, 1, self.window))
        sizes = zip((n, *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True)
        self.convs = nn.ModuleList(nn.Conv1d(i, o, 3, stride, padding=1) for i, o, stride in sizes)
        self.lstm = LSTM(WIDTHS[-1], WIDTHS[-1])
        self.out = nn.Conv1d(WIDTHS[-1], 1, 1)

    @torch.no_grad()
    def forward(self, samples: Tensor, state: VADState) -> Tensor:
        """The next samples [S] of a stream to the probability of speech in each chunk that they complete [N]. A chunk
        is heard after the end of the one before it, and the first after silence.
        """
        x = torch.cat((state.heard if len(state.heard) else samples.new_zeros(self.before), samples))
        n = (len(x) - self.before) // self.chunk
        state.heard = x[n * self.chunk :].clone()
        if not n:
            return samples.new_zeros(0)
        return self._speech(x[: self.before + n * self.chunk].unfold(0, self.before + self.chunk, self.chunk), state)

    def _speech(self, chunks: Tensor, state: VADState) -> Tensor:
        """Chunks with what was before them [N, before + chunk] to probabilities [N]."""
        padded = F.pad(chunks[:, None], (0, self.before), mode="reflect")
        real, imaginary = F.conv1d(padded, self.basis, stride=self.window // 2).chunk(2, dim=1)
        x = (real.square() + imaginary.square()).sqrt()
        for conv in self.convs:
            x = F.relu(conv(x))
        told = self.lstm(x.mT.flatten(0, 1)[None], state.lstm)
        return self.out(F.relu(told).mT)[0, 0].sigmoid()

    @classmethod
    def load(cls, path: Path | str, rate: int = 16_000) -> SileroVAD:
        """The detector in an ONNX file as Silero releases it (version 5), which holds one for each rate.

        Raises:
            UsageError: protobuf is not installed.
            CheckpointError: the file is missing or damaged, or holds no such detector.
        """
        vad, held = cls(rate), onnx.read(path)
        shape = list(vad.basis.shape)
        roots = [n.removesuffix(BASIS) for n, x in held.items() if n.endswith(BASIS) and list(x.shape) == shape]
        if len(roots) != 1:
            raise CheckpointError(f"{path}: holds no voice activity detector of Silero for {rate} samples a second")
        tensors = _summed({n.removeprefix(roots[0]): x for n, x in held.items() if n.startswith(roots[0])})
        return filled(vad, tensors, where=str(path))

    @property
    def keymap(self) -> KeyMap:
        """Of the names in that file. The rest are numbers of its graph."""
        return KeyMap(
            {
                "basis": BASIS,
                "convs.{i}.*": "encoder.{i}.reparam_conv.*",
                "lstm.layers.0.x.*": f"{RNN}ih.*",
                "lstm.layers.0.m.weight": f"{RNN}hh.weight",
                "out.*": "decoder.decoder.2.*",
            }
        )


def _summed(held: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights alone, and the two biases of the recurrent layer as one."""
    tensors = {n: x for n, x in held.items() if not n.startswith(("/", "Constant", "self.")) and x.is_floating_point()}
    ih, hh = (tensors.pop(f"{RNN}bias_{part}", None) for part in ("ih", "hh"))
    for part in ("ih", "hh"):
        if (weight := tensors.pop(f"{RNN}weight_{part}", None)) is not None:
            tensors[f"{RNN}{part}.weight"] = weight
    if ih is not None and hh is not None:
        tensors[f"{RNN}ih.bias"] = ih + hh
    return tensors
