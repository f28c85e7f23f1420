"""Where words and what is seen stand on axes of time, height and width (Wang et al. 2024, Qwen2-VL, figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The tokens of a picture or film, or of a stretch of a film, in order of time, then height, then width.

    Attributes:
        time, height, width: how many there are on each axis.
        step: positions from one time to the next; a fraction is rounded down once it has added up.
        first: times of the film before this stretch.
        last: whether the film ends here; if not, what follows is its next stretch.
    """

    time: int
    height: int
    width: int
    step: float = 1.0
    first: int = 0
    last: bool = True

    @property
    def n(self) -> int:
        """Tokens."""
        return self.time * self.height * self.width

    def places(self, start: int) -> Tensor:
        """Positions [3, N] of a film that begins at position `start`."""
        times = (torch.arange(self.first, self.first + self.time) * torch.tensor(self.step)).long()
        axes = torch.meshgrid(times, torch.arange(self.height), torch.arange(self.width), indexing="ij")
        return torch.stack(axes).flatten(1) + start

    def end(self, start: int) -> int:
        """Position of what follows: behind height and width, not time, as transformers counts."""
        return start + max(self.height, self.width) if self.last else start


def places(seen: Tensor, grids: Sequence[Grid], start: int = 0) -> tuple[Tensor, int]:
    """The positions of a text [3, T], and that of the token that follows.

    Args:
        seen: bool [T], true at the tokens of the grids, which fill them in order.
        start: position of the text's first token.

    Raises:
        ValueError: the grids do not fill those tokens, or one has words inside.
    """
    held = seen.nonzero()[:, 0].tolist()
    if len(held) != sum(g.n for g in grids):
        raise ValueError(f"the text has places for {len(held)} tokens, the grids have {sum(g.n for g in grids)}")
    parts: list[Tensor] = []
    at, done, used = start, 0, 0
    for grid in grids:
        first, last = held[used], held[used + grid.n - 1]
        if last - first != grid.n - 1:
            raise ValueError(f"there are words among the {grid.n} tokens of a picture")
        parts += [_words(at, first - done), grid.places(at + first - done)]
        at, done, used = grid.end(at + first - done), last + 1, used + grid.n
    rest = len(seen) - done
    return torch.cat((*parts, _words(at, rest)), dim=1), at + rest


def _words(start: int, n: int) -> Tensor:
    """Words stand at the same position on all axes."""
    return torch.arange(start, start + n).expand(3, -1)
