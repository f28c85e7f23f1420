"""Co-attention fusion: two streams, each of which looks at the other (Lu et al. 2019, ViLBERT, figure 2b)."""

from __future__ import annotations

from torch import Tensor, nn

from mmworld.nn.attention import CrossAttention, Pass
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.weights.keymap import Fuse, KeyMap, Place


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


def names(width: int) -> KeyMap:
    """Of `BertConnectionLayer`, whose heads are so wide together: 1 is of regions, 2 of words; keys are the other's."""
    table: dict[str, Place] = {}
    for ours, kind, own, other in (("regions", "v", 1, 2), ("words", "t", 2, 1)):
        kv = tuple(f"biattention.{name}{other}.*" for name in ("key", "value"))
        table |= {
            f"{ours}.attention.q.*": f"biattention.query{own}.*",
            f"{ours}.attention.kv.*": Fuse(kv, (width,) * 2),
            f"{ours}.attention.out.*": f"biOutput.dense{own}.*",
            f"{ours}.norm_attention.*": f"biOutput.LayerNorm{own}.*",
            f"{ours}.feed.up.*": f"{kind}_intermediate.dense.*",
            f"{ours}.feed.down.*": f"{kind}_output.dense.*",
            f"{ours}.norm_feed.*": f"{kind}_output.LayerNorm.*",
        }
    return KeyMap(table, unused=("biOutput.q_dense1.*", "biOutput.q_dense2.*"))  # made there, and never called
