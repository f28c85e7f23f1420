"""Names that checkpoints of several families have in common."""

from __future__ import annotations

from mmworld.weights.keymap import Fuse, Place


def batch_norm(ours: str, theirs: str) -> dict[str, Place]:
    """Of a batch norm."""
    return {f"{ours}.{p}": f"{theirs}.{p}" for p in ("*", "running_mean", "running_var", "num_batches_tracked")}


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


def bert_layers(root: str, dim: int, within: str = "self", kind: str = "") -> dict[str, Place]:
    """Of BERT's layers.

    Args:
        within: what the projections of an attention stand in.
        kind: at the end of the feed-forward's names, where there are several.
    """
    at, ours = f"{root}encoder.layer.{{i}}", "backbone.layers.{i}"
    qkv = tuple(f"{at}.attention.{within}.{name}.*" for name in ("query", "key", "value"))
    return {
        f"{ours}.attention.qkv.*": Fuse(qkv, (dim,) * 3),
        f"{ours}.attention.out.*": f"{at}.attention.output.dense.*",
        f"{ours}.norm_attention.*": f"{at}.attention.output.LayerNorm.*",
        f"{ours}.feed.up.*": f"{at}.intermediate{kind}.dense.*",
        f"{ours}.feed.down.*": f"{at}.output{kind}.dense.*",
        f"{ours}.norm_feed.*": f"{at}.output{kind}.LayerNorm.*",
    }


def bert_cross(root: str, dim: int, within: str = "self") -> dict[str, Place]:
    """Of the cross-attention in BERT's layers, arguments as for `bert_layers`."""
    at, ours = f"{root}encoder.layer.{{i}}.crossattention", "backbone.layers.{i}"
    return {
        f"{ours}.cross.q.*": f"{at}.{within}.query.*",
        f"{ours}.cross.kv.*": Fuse(tuple(f"{at}.{within}.{name}.*" for name in ("key", "value")), (dim,) * 2),
        f"{ours}.cross.out.*": f"{at}.output.dense.*",
        f"{ours}.norm_cross.*": f"{at}.output.LayerNorm.*",
    }
