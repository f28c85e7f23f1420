"""Gated cross-attention (Alayrac et al. 2022, Flamingo, section 3.1.2): a language model that stays as it is looks at
pictures between its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from mmworld.attention import Mask
from mmworld.nn.attention import Pass
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.weights.keymap import KeyMap


class Gate(nn.Module):
    """tanh(alpha) times the end of a branch: at first 0, so that training begins with the language model alone.

    Args:
        dim: numbers alpha: one, or one for each channel.
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha.tanh()


class Looking(nn.Module):
    """A layer of the language model, and what looks at the context before it, if anything does (figure 4)."""

    def __init__(self, look: nn.Module | None, layer: nn.Module) -> None:
        super().__init__()
        self.look, self.layer = look, layer

    def forward(self, x: Tensor, run: Pass, layer: int) -> Tensor:
        """x [B, T, D] to [B, T, D]."""
        if self.look is not None:
            x = self.look(x, run, layer)
        return self.layer(x, run, layer)


def insert(backbone: Transformer, look: Callable[[int], nn.Module | None]) -> None:
    """Before each layer of the backbone what `look` makes for its index."""
    backbone.layers = nn.ModuleList(Looking(look(i), layer) for i, layer in enumerate(backbone.layers))


def inside(keymap: KeyMap, theirs: Callable[[str], str] = str) -> KeyMap:
    """The map of a language model whose layers stand in `Looking`; `theirs` changes the names in the checkpoint."""
    at = "backbone.layers.{i}."
    return keymap.moved(lambda n: n.replace(at, f"{at}layer."), theirs)


class Sighted(Protocol):
    """A text decoder whose layers look at a context."""

    def embed(self, ids: Tensor) -> Tensor: ...

    def hidden(
        self,
        x: Tensor,
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
        *,
        context: Tensor | None = None,
        context_mask: Mask = ...,
    ) -> Tensor: ...


def hidden(
    language: Sighted,
    ids: Tensor,
    places: Tensor,
    seen: Tensor,
    state: KVState | None = None,
    lengths: tuple[int, ...] | None = None,
    ends: Tensor | None = None,
) -> Tensor:
    """Ids of one row [1, T] to what the decoder's backbone makes of them [1, T, D], each token looking at the last of
    the pictures before it (section 3.1.3). A state holds the last one, which the text then goes on looking at.

    Args:
        places: bool [T], where the pictures stand in the text; the token there sees its own.
        seen: their tokens [P, n, E].
        lengths: of the texts packed in the row; none sees the pictures of another.
        ends: bool [T], tokens after which nothing is seen until the next picture.

    Raises:
        ValueError: there are not as many places as pictures, or several rows.
    """
    if len(ids) != 1 or int(places.sum()) != len(seen):
        raise ValueError(f"one row with {int(places.sum())} places for pictures: not {len(ids)} with {len(seen)}")
    x = language.embed(ids)
    first = int(places.int().argmax()) if len(seen) else len(places)
    if state is not None and state.context and first:
        before = language.hidden(x[:, :first], state)
        if first == len(places):
            return before
        rest = None if ends is None else ends[first:]
        return torch.cat((before, hidden(language, ids[:, first:], places[first:], seen, state, ends=rest)), dim=1)
    mask = sight(places, seen.shape[1], lengths or (len(places),), ends)
    out = language.hidden(x, state, lengths, context=seen.flatten(0, 1)[None], context_mask=mask)
    if state is not None and mask.key_lengths is not None:
        last = mask.key_lengths[-1]
        state.context = {i: (k[:, len(k[0]) - last :], v[:, len(v[0]) - last :]) for i, (k, v) in state.context.items()}
    return out


def sight(places: Tensor, n: int, lengths: Sequence[int], ends: Tensor | None = None) -> Mask:
    """Of tokens to the tokens of pictures, n each, that stand in `places`; arguments as for `hidden`."""
    blind = [0, *accumulate(lengths)][:-1] + ([] if ends is None else (ends.nonzero()[:, 0] + 1).tolist())
    keys = dict.fromkeys(blind, 0) | dict.fromkeys(places.nonzero()[:, 0].tolist(), n)
    cuts = sorted(at for at in keys if at < len(places))
    queries = tuple(b - a for a, b in pairwise((*cuts, len(places))))
    return Mask(lengths=queries, key_lengths=tuple(keys[at] for at in cuts))
