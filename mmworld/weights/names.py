"""Names that checkpoints of several families have in common."""

from __future__ import annotations

from mmworld.weights.keymap import Fuse, Place


def clip_layers(root: str, dim: int) -> dict[str, Place]:
    """Of the layers of CLIP's and SigLIP's towers, of pictures and of texts."""
    at, ours = f"{root}encoder.layers.{{i}}", "backbone.layers.{i}"
    return {
        **clip_attention(f"{ours}.attention", f"{at}.self_attn", dim),
        f"{ours}.norm_attention.*": f"{at}.layer_norm1.*",
        f"{ours}.norm_feed.*": f"{at}.layer_norm2.*",
        f"{ours}.feed.up.*": f"{at}.mlp.fc1.*",
        f"{ours}.feed.down.*": f"{at}.mlp.fc2.*",
    }


def clip_attention(ours: str, theirs: str, dim: int) -> dict[str, Place]:
    """Of one attention in them."""
    return {
        f"{ours}.qkv.*": Fuse(tuple(f"{theirs}.{p}_proj.*" for p in "qkv"), (dim,) * 3),
        f"{ours}.out.*": f"{theirs}.out_proj.*",
    }
