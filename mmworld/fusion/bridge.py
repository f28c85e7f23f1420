"""Bridges between the tokens of an encoder and those of a language model: the parts that a composed model learns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmworld.fusion.projection import Projector
from mmworld.fusion.qformer import QFormer
from mmworld.fusion.resampler import Resampler
from mmworld.nn.layer import TransformerConfig

HEADS = (12, 8, 6, 4, 3, 2, 1)


class Projected(nn.Module):
    """Each token, or several neighbours as one, through two layers (LLaVA 1.5).

    Args:
        seen, told: widths of a token of the encoder and of the language model.
        stack: neighbours that become one.
    """

    def __init__(self, seen: int, told: int, stack: int = 1) -> None:
        super().__init__()
        self.stack, self.norm, self.project = stack, nn.LayerNorm(seen), Projector(stack * seen, told)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, seen] to [B, ceil(N / stack), told]; what is missing of the last few is zero."""
        x = nn.functional.pad(self.norm(x), (0, 0, 0, -x.shape[1] % self.stack))
        return self.project(x.unflatten(1, (-1, self.stack)).flatten(2))


class Early(nn.Module):
    """Each token through one matrix, with a vector that says of which sense it is (VisualBERT, section 3.1)."""

    def __init__(self, seen: int, told: int) -> None:
        super().__init__()
        self.project, self.sense = nn.Linear(seen, told), nn.Parameter(torch.zeros(told))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, seen] to [B, N, told]."""
        return self.project(x) + self.sense


class Asked(nn.Module):
    """What the n questions of a Q-Former find (BLIP-2)."""

    def __init__(self, seen: int, told: int, n: int, depth: int) -> None:
        super().__init__()
        self.qformer = QFormer(_qformer(seen, told, depth), n)
        nn.init.normal_(self.qformer.questions, std=0.02)
        self.project = nn.Linear(told, told)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, seen] to [B, n, told]."""
        return self.project(self.qformer(x))


class Resampled(nn.Module):
    """What n latents find, for layers that look at it (Flamingo)."""

    def __init__(self, seen: int, told: int, n: int, depth: int) -> None:
        super().__init__()
        self.project = nn.Linear(seen, told)
        self.resampler = Resampler(TransformerConfig(told, depth, heads(told)), n)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, seen] to [B, n, told]."""
        return self.resampler(self.project(x)[:, None])


def heads(width: int) -> int:
    """The most heads of at least four channels that divide a width."""
    return next(n for n in HEADS if not width % n and (width // n >= 4 or n == 1))


def _qformer(seen: int, told: int, depth: int) -> dict[str, Any]:
    sizes = {"hidden_size": told, "intermediate_size": 4 * told, "encoder_hidden_size": seen}
    return {
        **sizes,
        "model_type": "blip_2_qformer",
        "num_hidden_layers": depth,
        "num_attention_heads": heads(told),
    }
