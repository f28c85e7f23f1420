"""The one transformer computes what the transformers library computes, for tiny random vision encoders."""

from __future__ import annotations

import pytest
import torch
from masks import relative_error
from torch import Tensor, nn

from mmworld.nn.layer import Layer, LayerScale
from mmworld.nn.transformer import Transformer, TransformerConfig

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 2e-5


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, norms and biases too, that leave no part of the model without effect."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.ndim > 1 else 0.3) + ("norm" in name) * (p.ndim == 1))
    return model.eval()


def fill(ours: nn.Module, weights: dict[str, Tensor]) -> None:
    ours.load_state_dict({name: w.clone() for name, w in weights.items()}, strict=True)


def linear(name: str, *theirs: nn.Linear) -> dict[str, Tensor]:
    """One linear layer from one or more of theirs, stacked."""
    out = {f"{name}.weight": torch.cat([m.weight for m in theirs])}
    if theirs[0].bias is not None:
        out[f"{name}.bias"] = torch.cat([m.bias for m in theirs])
    return out


def norm(name: str, theirs: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{part}": w for part, w in theirs.named_parameters()}


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for x, expected in zip(ours, theirs, strict=True):
        assert relative_error(x, expected) <= LIMIT


@torch.no_grad()
@pytest.mark.parametrize("family", ["vit", "clip", "dinov2"])
def test_vit_clip_and_dinov2(family: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 8, "patch_size": 4}
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    activation, scaled = "quick_gelu" if family == "clip" else "gelu", family == "dinov2"
    if family == "vit":
        theirs = randomise(hf.ViTModel(hf.ViTConfig(**sizes, intermediate_size=64), add_pooling_layer=False))
        x, layers, last = theirs.embeddings(images), theirs.layers, theirs.layernorm
    elif family == "clip":
        theirs = randomise(hf.CLIPVisionModel(hf.CLIPVisionConfig(**sizes, intermediate_size=64)))
        x, layers, last = theirs.pre_layrnorm(theirs.embeddings(images)), theirs.encoder.layers, theirs.post_layernorm
    else:
        theirs = randomise(hf.Dinov2Model(hf.Dinov2Config(**sizes, mlp_ratio=2)))
        x, layers, last = theirs.embeddings(images), theirs.encoder.layer, theirs.layernorm
    c = TransformerConfig(32, 2, 4, hidden=64, activation=activation, norm_eps=last.eps)
    ours = Transformer(c, layer=lambda _: Layer(c, end=lambda: LayerScale(32)) if scaled else Layer(c))
    weights = norm("norm", last)
    for i, layer in enumerate(layers):
        at = f"layers.{i}"
        parts = {path.split(".")[-1]: m for path, m in layer.named_modules()}
        weights |= linear(f"{at}.attention.qkv", parts["q_proj"], parts["k_proj"], parts["v_proj"])
        weights |= linear(f"{at}.attention.out", parts.get("o_proj") or parts["out_proj"])
        weights |= linear(f"{at}.feed.up", parts["fc1"]) | linear(f"{at}.feed.down", parts["fc2"])
        first, second = (m for name, m in parts.items() if name.startswith(("norm", "layer_norm", "layernorm")))
        weights |= norm(f"{at}.norm_attention", first) | norm(f"{at}.norm_feed", second)
        if scaled:
            weights[f"{at}.end_attention.gamma"] = layer.layer_scale1.lambda1
            weights[f"{at}.end_feed.gamma"] = layer.layer_scale2.lambda1
    fill(ours, weights)
    expected = theirs(images).last_hidden_state
    check([ours(x)], [last(expected) if family == "clip" else expected])
