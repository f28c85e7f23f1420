"""Projection: what an encoder sees becomes tokens of a language model (Liu et al. 2023, LLaVA, figure 1)."""

from __future__ import annotations

from torch import Tensor, nn

from mmworld.nn.layer import ACTIVATIONS


class Projector(nn.Module):
    """Two linear layers around an activation (Liu et al. 2024, LLaVA 1.5, section 3.2).

    Args:
        seen, told: widths of a token of the encoder and of the language model.
    """

    def __init__(self, seen: int, told: int, activation: str = "gelu", *, bias: bool = True) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(seen, told, bias=bias), nn.Linear(told, told, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., seen] to [..., told]."""
        return self.down(self.activation(self.up(x)))


def put(seen: Tensor, words: Tensor, where: Tensor) -> Tensor:
    """Tokens `seen` [N, D] in the places that are true in `where` [B, T], among words [B, T, D], in order.

    Raises:
        ValueError: there are not as many places as tokens.
    """
    if (places := int(where.sum())) != len(seen):
        raise ValueError(f"the text has {places} places for tokens of pictures, the pictures give {len(seen)}")
    return words.masked_scatter(where[..., None], seen.to(words.dtype))
