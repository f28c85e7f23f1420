"""One transformer. A config holds what every transformer has; what one family alone needs is a module handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmworld.attention import FULL, Mask
from mmworld.nn.attention import Pass
from mmworld.nn.layer import Layer, TransformerConfig, make_norm
from mmworld.nn.position import positions
from mmworld.nn.state import KVState
from mmworld.nn.streams import Sizes, Streams

__all__ = ["Transformer", "TransformerConfig"]


class Transformer(nn.Module):
    """A stack of layers, over packed rows or over a stream.

    Args:
        c: sizes.
        position: makes the rotation of positions (`Rotary`).
        bias: makes logits of the positions of queries and keys, for all layers (`RelativeBias`), or what makes them of
            the queries (`RelativeKeys`).
        layer: makes the layer of that index, in place of `Layer(c)`.
        last: follows the last layer, in place of the norm that "pre" asks for there.
    """

    def __init__(
        self,
        c: TransformerConfig,
        *,
        position: nn.Module | None = None,
        bias: nn.Module | None = None,
        layer: Callable[[int], nn.Module] | None = None,
        last: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config, self.position, self.bias = c, position, bias
        self.layers = nn.ModuleList(layer(i) if layer else Layer(c) for i in range(c.depth))
        self.norm = last or (make_norm(c) if c.order == "pre" else nn.Identity())

    def forward(
        self,
        x: Tensor,
        mask: Mask = FULL,
        state: KVState | None = None,
        context: Tensor | None = None,
        context_mask: Mask = FULL,
        depth: int | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """x [B, N, D] to [B, N, D].

        Without a state, the row is seen whole, as `mask` says. With one, x is the next stretch of one stream: `mask`
        only cuts it into blocks (full is one block), the state's window and sinks hold, and the state then remembers x.
        With `Streams`, x [B, N, D] is the next stretch of B streams of any lengths; or, where the mask has `lengths`,
        [1, N, D] is that of one stream after the other, 0 tokens of those of which nothing comes.

        Args:
            context: [B, M, C] that layers with cross-attention look at, as `context_mask` says. A state keeps its keys,
                so it is given once, or again where it changes.
            depth: layers to go through, without what follows the last one; None is all. Only without a state.
            places: positions [N], or [A, N] on the axes of a `Rotary` with sections; None counts from where the state
                stands. To a state that is compact, those of all that it holds come before them.

        Raises:
            ValueError: a packed row with the state of one stream, lengths of others than the streams, a depth with a
                state, places in a compact one that are not those of all it holds, or where some of that goes, a bias,
                context or places with several streams, or a mask whose window is not the state's.
        """
        run = Pass(mask, state=state, context=context, context_mask=context_mask)
        if state is None:
            return self._run(x, run, positions(mask, x.shape[1], x.device), places, depth)
        if depth is not None:
            raise ValueError("a state holds all layers, so all are gone through")
        if isinstance(state, Streams):
            if self.bias is not None or context is not None or places is not None:
                raise ValueError("streams side by side have no biases, contexts or places of their own")
            return self._streams(x.flatten(0, 1)[None], _parts(mask, x, state), run, state).view_as(x)
        return self._stream(x, _blocks(mask, x.shape[1], state), run, state, places)

    def _stream(
        self, x: Tensor, new: tuple[int, ...], run: Pass, state: KVState, places: Tensor | None = None
    ) -> Tensor:
        given = 0 if places is None else places.shape[-1]
        if given and state.compact and (state.overflows(len(new)) or given != len(state) + x.shape[1]):
            raise ValueError("in a state with sinks or limits, places are of all that it holds and of what is new")
        if len(steps := state.steps(new)) > 1:
            parts = x.split([sum(step) for step in steps], dim=1)
            return torch.cat([self._stream(p, step, run, state) for p, step in zip(parts, steps, strict=True)], dim=1)
        state.make_room()  # then one new block sees all that is held, and needs no mask
        keys = torch.arange(state.next - len(state), state.next + x.shape[1], device=x.device)
        x = self._run(x, replace(run, mask=state.mask(new)), keys, places, held=state.compact)
        state.advance(new)
        return x

    def _streams(self, x: Tensor, blocks: Sequence[Sizes], run: Pass, state: Streams) -> Tensor:
        """A packed row [1, N, D] of the next blocks of each stream."""
        lengths = [sum(step) for s, new in zip(state.streams, blocks, strict=True) for step in s.steps(new)]
        parts = list(x.split(lengths, dim=1))
        for at, wave in state.waves(blocks):
            wave.make_room()
            row = replace(run, state=wave, mask=wave.mask())
            if self.position is not None:
                row = replace(row, turn=self.position(wave.queries(x.device), x.dtype))
                if state.compact:
                    row = replace(row, turn_keys=self.position(wave.keys(x.device), x.dtype))
            y = self._through(torch.cat([parts[i] for i in at], dim=1), row)
            wave.advance()
            for i, part in zip(at, y.split(wave.lengths, dim=1), strict=True):
                parts[i] = part
        return torch.cat(parts, dim=1) if parts else x

    def _run(
        self, x: Tensor, run: Pass, keys: Tensor, places: Tensor | None, depth: int | None = None, held: bool = False
    ) -> Tensor:
        """Tokens that are the last of those at `keys`, or at places of their own; `held`: of keys before rotation."""
        queries = keys[len(keys) - x.shape[1] :]
        if self.position is not None:
            turn = self.position(places if places is not None else keys if held else queries, x.dtype)
            run = replace(run, turn=turn, turn_keys=turn if held else None)
        if self.bias is not None:
            run = replace(run, bias=self.bias(queries, keys))
        return self._through(x, run, depth)

    def _through(self, x: Tensor, run: Pass, depth: int | None = None) -> Tensor:
        for i, layer in enumerate(self.layers[:depth]):
            x = layer(x, run, i)
        return self.norm(x) if depth is None else x


def _blocks(mask: Mask, n: int, state: KVState) -> tuple[int, ...]:
    """The blocks into which a mask cuts the next n tokens of a stream."""
    if mask.lengths not in (None, (n,)) or mask.key_lengths not in (None, (n,)):
        raise ValueError(f"a state is of one stream, the mask packs {mask.lengths} and {mask.key_lengths}")
    if (mask.window, mask.sinks) not in ((None, 0), (state.window, state.sinks)):
        raise ValueError(f"the mask's window is {mask.window}, the state's {state.window}")
    if mask.kind == "causal":
        return (1,) * n
    blocks = mask.blocks if mask.blocks is not None else (n,)
    if sum(blocks) != n:
        raise ValueError(f"blocks {blocks} are {sum(blocks)} tokens, not {n}")
    return blocks


def _parts(mask: Mask, x: Tensor, state: Streams) -> list[Sizes]:
    """The blocks of each stream's next tokens, of x [B, N, D]: of each row, or of each segment where there are any."""
    rows, n = x.shape[:2]
    found = rows if mask.lengths is None else len(mask.lengths)
    if found != len(state.streams) or (mask.lengths is not None and rows != 1):
        raise ValueError(f"{rows} rows with {mask.lengths} tokens for {len(state.streams)} streams")
    if mask.lengths is None:
        return [_blocks(mask, n, state)] * rows
    return [_blocks(rule, q, state) if q else () for q, _, rule in mask.segments(n, n)]
