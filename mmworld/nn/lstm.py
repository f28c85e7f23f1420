"""Long short-term memory (Hochreiter & Schmidhuber 1997), as Show and Tell decodes with."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class LSTMState:
    """What each layer remembers of its rows: cells and what they gave last [B, H]; empty before the first step."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def fork(self) -> LSTMState:
        """An independent copy; the tensors are never written in place."""
        return LSTMState(list(self.layers))

    def select(self, rows: Tensor) -> None:
        """Keep only these rows of the batch, int64 [rows], in this order; a row may be repeated."""
        self.layers = [(c[rows], m[rows]) for c, m in self.layers]


class Cell(nn.Module):
    """One layer (Vinyals et al. 2015, eq. 4 to 8): gates for what comes in, what is kept and what is told.

    Args:
        c_in: width of what comes in.
        width: H, of what is remembered.
    """

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.x, self.m = nn.Linear(c_in, 4 * width), nn.Linear(width, 4 * width, bias=False)

    def forward(self, x: Tensor, held: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """x [B, I] to the new cell and output [B, H]."""
        gates = self.x(x)
        if held is not None:
            gates = gates + self.m(held[1])
        let_in, keep, new, tell = gates.chunk(4, dim=-1)
        c = let_in.sigmoid() * new.tanh()
        if held is not None:
            c = c + keep.sigmoid() * held[0]
        return c, tell.sigmoid() * c.tanh()


class LSTM(nn.Module):
    """Layers of cells, one above the other.

    Args:
        c_in: width of what comes in.
        width: H, of each layer.
        depth: layers.
    """

    def __init__(self, c_in: int, width: int, depth: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Cell(width if i else c_in, width) for i in range(depth))

    def forward(self, x: Tensor, state: LSTMState | None = None) -> Tensor:
        """x [B, T, I] to [B, T, H], step by step; the state goes on with it."""
        state = state if state is not None else LSTMState()
        told = []
        for step in x.unbind(1):
            for i, cell in enumerate(self.layers):
                held = state.layers[i] if i < len(state.layers) else None
                c, step = cell(step, held)
                state.layers[i : i + 1] = [(c, step)]
            told.append(step)
        return torch.stack(told, dim=1)
