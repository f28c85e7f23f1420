"""What a text decoder remembers of a stream without end: blocks of several kinds, each with a budget of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from mmworld.nn.row import Row
from mmworld.nn.state import KVState

SLACK = 1e-6
"""By which a budget may be passed: weights are sums of floats."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What comes next of a stream, and goes as a whole.

    Attributes:
        kind: index of its budget.
        at: positions of its tokens, int64 [N] or on axes [A, N], counted from where it begins.
        span: positions from where it begins to where what follows does.
        weight: what it takes of its budget.
    """

    kind: int
    at: Tensor
    span: int
    weight: float = 0.0


@dataclass
class Rolling:
    """A causal past in pieces. Each kind has a budget: where a new piece would pass it, the oldest of its kind go.

    What is left is read as if it had come one after the other: keys are held before rotation, and each piece stands
    where the one before it ends, on all axes (StreamingVLM, Xu et al. 2025, "contiguous RoPE"). So positions are
    bounded by what is held, and what a token sees is exactly the pieces that are held when it comes.

    Attributes:
        budgets: of each kind, the most that its pieces weigh together; a single one may weigh more.
        state: keys and values of what is held, each token a block.
        pieces: kind, tokens, span and weight of each that is held, oldest first.
        at: positions of what is held, counted from where their pieces begin.
    """

    budgets: tuple[float, ...]
    state: KVState = field(default_factory=lambda: KVState(limits=(None,)))
    kinds: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    spans: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    at: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def __len__(self) -> int:
        return sum(self.sizes)

    @property
    def end(self) -> int:
        """Position of what comes next."""
        return sum(self.spans)

    @property
    def places(self) -> Tensor:
        """Positions of what is held, int64 [T] or [A, T]."""
        spans, sizes = torch.tensor(self.spans), torch.tensor(self.sizes)
        return self.at + (spans.cumsum(0) - spans).repeat_interleave(sizes)

    @property
    def nbytes(self) -> int:
        return self.state.nbytes + self.at.nbytes

    def enter(self, x: Tensor, piece: Piece, hidden: Callable[..., Tensor]) -> Tensor:
        """Take the next piece, embedded tokens [1, N, D]; returns what the decoder makes of them.

        Args:
            hidden: the decoder's layers, called with (x, state, places=…).
        """
        self._make_room(piece)
        places = torch.cat((self.places, piece.at + self.end), dim=-1) if self.sizes else piece.at
        y = hidden(x, self.state, places=places.to(x.device))
        self.at = torch.cat((self.at, piece.at), dim=-1) if self.sizes else piece.at
        self.kinds, self.sizes = (*self.kinds, piece.kind), (*self.sizes, x.shape[1])
        self.spans, self.weights = (*self.spans, piece.span), (*self.weights, piece.weight)
        return y

    def settled(self, position: nn.Module) -> KVState:
        """All that is held as an ordinary state that grows, its keys turned once: for text that is not kept."""
        held, keys = self.state, self.state.keys
        turn = position(self.places.to(keys[0].x.device), keys[0].x.dtype)
        values = [row.fork() for row in held.values]
        return KVState(
            blocks=held.blocks,
            kinds=held.kinds,
            keys=[Row(turn(row.x)) for row in keys],
            values=values,
            delta=self.end - len(self),
        )

    def fork(self) -> Rolling:
        """An independent copy that shares the tensors until either side goes on."""
        return replace(self, state=self.state.fork())

    def _make_room(self, piece: Piece) -> None:
        """Drop the oldest of the piece's kind that its budget does not hold beside it."""
        mine = [i for i, kind in enumerate(self.kinds) if kind == piece.kind]
        over = sum(self.weights[i] for i in mine) + piece.weight - self.budgets[piece.kind]
        gone = []
        for i in mine:
            if over <= SLACK:
                break
            gone.append(i)
            over -= self.weights[i]
        if gone:
            self._drop(gone)

    def _drop(self, gone: Sequence[int]) -> None:
        first = [0, *accumulate(self.sizes)]
        tokens = [t for i in gone for t in range(first[i], first[i + 1])]
        self.state.drop(tokens)
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[tokens] = False
        self.at = self.at[..., kept]
        left = [i for i in range(len(self.sizes)) if i not in gone]
        for name in ("kinds", "sizes", "spans", "weights"):
            held = getattr(self, name)
            setattr(self, name, tuple(held[i] for i in left))
