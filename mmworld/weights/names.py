"""Names that checkpoints of several families have in common."""

from __future__ import annotations

from mmworld.weights.keymap import Fuse, Place


def clip_layers(root: str, dim: int) -> dict[str, Place]:
    """Of the layers of CLIP's and SigLIP's towers, of pictures and of texts."""
    at, ours = f"{root}encoder.layers.{{i}}", "backbone.layers.{i}"
    return {
        f"{ours}.attention.qkv.*": Fuse(tuple(f"{at}.self_attn.{p}_proj.*" for p in "qkv"), (dim,) * 3),
        f"{ours}.attention.out.*": f"{at}.self_attn.out_proj.*",
        f"{ours}.norm_attention.*": f"{at}.layer_norm1.*",
        f"{ours}.norm_feed.*": f"{at}.layer_norm2.*",
        f"{ours}.feed.up.*": f"{at}.mlp.fc1.*",
        f"{ours}.feed.down.*": f"{at}.mlp.fc2.*",
    }
