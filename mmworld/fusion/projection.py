"""Projection: what an encoder sees becomes tokens of a language model (Liu et al. 2023, LLaVA, figure 1)."""

from __future__ import annotations

from torch import Tensor, nn

from mmworld.nn.layer import ACTIVATIONS


class Projector(nn.Module):
    """Two linear layers around an activation (Liu et al. 2024, LLaVA 1.5, section 3.2).

    Args:
        seen, told: widths of a token of the encoder and of the language model.
        hidden: width between the layers; None is that of the language model.
    """

    def __init__(
        self, seen: int, told: int, activation: str = "gelu", *, bias: bool = True, hidden: int | None = None
    ) -> None:
        super().__init__()
        hidden = hidden or told
        self.up, self.down = nn.Linear(seen, hidden, bias=bias), nn.Linear(hidden, told, bias=bias)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """[..., seen] to [..., told]."""
        return self.down(self.activation(self.up(x)))


class Merger(nn.Module):
    """So many neighbouring tokens become one (Wang et al. 2024, Qwen2-VL, section 2.1).

    Args:
        norm: of each token.
        seen, told: widths of a token of the encoder and of the language model.
        n: tokens that become one.
    """

    def __init__(self, norm: nn.Module, seen: int, told: int, n: int) -> None:
        super().__init__()
        self.norm, self.n, self.project = norm, n, Projector(n * seen, told, hidden=n * seen)

    def forward(self, x: Tensor) -> Tensor:
        """[N, seen], neighbours one after another, to [N / n, told]."""
        return self.project(self.norm(x).unflatten(0, (-1, self.n)).flatten(1))


def shuffled(x: Tensor, n: int) -> Tensor:
    """Tokens of square grids [B, N, D], each n by n neighbours as one, row by row [B, N / n², n² D] (pixel shuffle, as
    in Idefics3, Laurençon et al. 2024, section 3.1)."""
    side = round(x.shape[1] ** 0.5)
    return x.unflatten(1, (side // n, n, side // n, n)).transpose(2, 3).flatten(3).flatten(1, 2)


def put(seen: Tensor, words: Tensor, where: Tensor) -> Tensor:
    """Tokens `seen` [N, D] in the places that are true in `where` [B, T], among words [B, T, D], in order.

    Raises:
        ValueError: there are not as many places as tokens.
    """
    if (places := int(where.sum())) != len(seen):
        raise ValueError(f"the text has {places} places for tokens of what it shows, which gives {len(seen)}")
    return words.masked_scatter(where[..., None], seen.to(words.dtype))
