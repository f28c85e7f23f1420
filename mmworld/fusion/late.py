"""Late fusion: things of two senses are brought to one space, apart from each other (Radford et al. 2021, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmworld.types import Takes


class Late(nn.Module):
    """A thing and a text fit as well as their directions agree. A family gives `embed` and `embed_texts`.

    Attributes:
        takes: the things that it compares with texts.
        alone: whether each pair has a probability of its own, the sigmoid of its score; if not, the softmax over the
            texts says which of them is likeliest.
        unit: whether directions are compared, of length 1; if not, what stands for a thing or a text may be of any.
        scale: logarithm of what the agreement is multiplied by.
    """

    takes: Takes
    alone: ClassVar[bool] = False
    unit: ClassVar[bool] = True
    scale: nn.Parameter

    def embed(self, x: Tensor) -> Tensor:
        """Things, prepared [B, ...], to directions [B, E] of length 1."""
        raise NotImplementedError

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text to directions [B, E] of length 1.

        Raises:
            ValueError: a text is longer than the places that were learned, or has no ids where it needs some.
        """
        raise NotImplementedError

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        """Directions [things, E] and [texts, E] to scores [things, texts]."""
        return seen @ told.T * self.scale.exp()

    def forward(self, x: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """How well each text fits each thing [things, texts]."""
        return self.compare(self.embed(x), self.embed_texts(texts))


class Judged(Late):
    """A text and a picture are judged together: a family says of each pair whether it fits, and has directions, too.

    Attributes:
        vision: makes of pictures what is judged.
    """

    alone = True
    vision: Any

    def judge(self, seen: Tensor, ids: Tensor) -> Tensor:
        """What `vision` made of pictures, and the ids of a text for each [B, T], to scores [B, 2]: no and yes."""
        raise NotImplementedError

    def forward(self, x: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Pictures and texts to the logits of each text being about each picture [pictures, texts]."""
        seen = self.vision(x)
        rows = [torch.tensor([list(t)] * len(seen), device=seen.device) for t in texts]
        fits = torch.stack([self.judge(seen, ids) for ids in rows], dim=1)
        return fits[..., 1] - fits[..., 0]
