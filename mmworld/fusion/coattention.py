"""Co-attention fusion: two streams, each of which looks at the other (Lu et al. 2019, ViLBERT, figure 2b)."""

from __future__ import annotations

from torch import Tensor, nn

from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import Layer, TransformerConfig


class CoAttention(nn.Module):
    """A layer of each stream whose queries are its own, and whose keys and values are the other's.

    Both look at what the other was before the layer, so neither is first.

    Args:
        words, regions: sizes of the two layers; their heads may be wider or narrower than the streams.
    """

    def __init__(self, words: TransformerConfig, regions: TransformerConfig) -> None:
        super().__init__()
        self.words = Layer(words, attention=CrossAttention(words, context_dim=regions.dim))
        self.regions = Layer(regions, attention=CrossAttention(regions, context_dim=words.dim))

    def forward(self, words: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Words [B, T, D] and regions [B, R, E] to the same of both."""
        return self.words(words, Pass(context=regions), 0), self.regions(regions, Pass(context=words), 0)
