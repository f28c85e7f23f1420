"""Fewer tokens of a stream: those that say again what was seen are left out, those that are alike become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Economy:
    """How many tokens of a block are worth their place.

    A token that points where the last one that was kept in its place points (a cosine over `similar`) is left out: what
    does not move is said once. Of those that stay, the most alike are averaged until `most` are left (bipartite soft
    matching, Bolya et al. 2023, ToMe, section 3). A block keeps one token at least, so that its time passes.

    Attributes:
        similar: above 1 leaves none out.
        most: None joins none.
    """

    similar: float = 0.95
    most: int | None = None

    def __post_init__(self) -> None:
        if not self.similar > 0 or (self.most is not None and self.most < 1):
            raise ValueError(f"similar must be above 0 and most at least 1: {self}")

    def thin(self, x: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """The tokens of a block [n, D] that stay [m, D], and what is seen from now on in each place [n, D].

        Args:
            seen: in each place, before the block; None, or of another n, if it is no longer comparable.
        """
        import torch

        if seen is None or seen.shape != x.shape:
            return self._joined(x), x
        alike = torch.cosine_similarity(x, seen, dim=-1)
        fresh = alike <= self.similar
        if not fresh.any():
            fresh = alike == alike.min()
        return self._joined(x[fresh]), torch.where(fresh[:, None], x, seen)

    def _joined(self, x: Tensor) -> Tensor:
        weights = x.new_ones(len(x))
        while self.most is not None and len(x) > self.most:
            x, weights = join(x, weights, len(x) - self.most)
        return x


def join(x: Tensor, weights: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Up to n of every other token [N, D] each averaged into the one of the rest that it is most like, by how many
    tokens [N] each stands for already; the pairs most alike first, the order kept."""
    return _averaged(x, weights, *_alike(x, n))


def pooled(x: Tensor, time: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Tokens [N, D] and their times [N] as at most `most` of each: means of those that are alike, in order of time."""
    import torch

    both, weights = torch.cat((x, time[:, None].to(x)), 1), x.new_ones(len(x))
    while len(both) > most:
        both, weights = _averaged(both, weights, *_alike(both[:, :-1], len(both) - most))
    both = both[both[:, -1].argsort(stable=True)]
    return both[:, :-1], both[:, -1]


def _alike(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Of every other token [N, D] the n that are most like one of the rest, and which."""
    from torch.nn import functional as F

    unit = F.normalize(x, dim=-1)
    alike, partner = (unit[1::2] @ unit[0::2].mT).max(-1)
    going = alike.topk(min(n, len(alike))).indices
    return 1 + 2 * going, 2 * partner[going]


def _averaged(x: Tensor, weights: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens with each source averaged into its target, and how many each stands for."""
    import torch

    total = weights.index_add(0, target, weights[source])
    summed = (x * weights[:, None]).index_add(0, target, x[source] * weights[source, None])
    stays = torch.ones(len(x), dtype=torch.bool, device=x.device)
    stays[source] = False
    return (summed / total[:, None])[stays], total[stays]
