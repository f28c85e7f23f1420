"""The one transformer computes what the transformers library computes, for tiny random models of each family."""

from __future__ import annotations

import pytest
import torch
from masks import relative_error
from torch import Tensor, nn

from mmworld.attention import CAUSAL, FULL, Mask
from mmworld.nn.attention import Attention, CrossAttention
from mmworld.nn.layer import Layer, LayerScale
from mmworld.nn.position import Learned, RelativeBias, Rotary
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer, TransformerConfig

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
LIMIT = 2e-5
LENGTHS = (7, 1, 5)
IDS = [torch.arange(3, 3 + n)[None] for n in LENGTHS]


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


def packed(model: Transformer, xs: list[Tensor], mask: Mask, **given: object) -> list[Tensor]:
    """Rows of several lengths in one pass."""
    lengths = tuple(x.shape[1] for x in xs)
    mask = Mask(mask.kind, lengths=lengths)
    return list(model(torch.cat(xs, dim=1), mask, **given).split(lengths, dim=1))


def check(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for x, expected in zip(ours, theirs, strict=True):
        assert relative_error(x, expected) <= LIMIT


def check_stepwise(model: Transformer, x: Tensor, expected: Tensor) -> None:
    state = KVState()
    steps = [model(part, CAUSAL, state) for part in x.split([3, 1, x.shape[1] - 4], dim=1)]
    assert relative_error(torch.cat(steps, dim=1), expected) <= LIMIT


@torch.no_grad()
def test_bert() -> None:
    c = hf.BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    theirs = randomise(hf.BertModel(c, add_pooling_layer=False))
    ours = Transformer(TransformerConfig(32, 2, 4, hidden=48, order="post", norm_eps=c.layer_norm_eps))
    weights = {}
    for i, layer in enumerate(theirs.encoder.layer):
        at, attn = f"layers.{i}", layer.attention
        weights |= linear(f"{at}.attention.qkv", attn.self.query, attn.self.key, attn.self.value)
        weights |= linear(f"{at}.attention.out", attn.output.dense) | norm(
            f"{at}.norm_attention", attn.output.LayerNorm
        )
        weights |= linear(f"{at}.feed.up", layer.intermediate.dense) | linear(f"{at}.feed.down", layer.output.dense)
        weights |= norm(f"{at}.norm_feed", layer.output.LayerNorm)
    fill(ours, weights)
    e = theirs.embeddings
    table = Learned(*e.position_embeddings.weight.shape)
    fill(table, {"table.weight": e.position_embeddings.weight})
    words = [
        e.word_embeddings(ids) + e.token_type_embeddings.weight[0] + table(torch.arange(ids.shape[1])) for ids in IDS
    ]
    out = packed(ours, [e.LayerNorm(x) for x in words], FULL)
    check(out, [theirs(ids).last_hidden_state for ids in IDS])


@torch.no_grad()
def test_gpt2() -> None:
    c = hf.GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=16)
    theirs = randomise(hf.GPT2Model(c))
    ours = Transformer(TransformerConfig(32, 2, 4, activation="gelu_tanh"))
    weights = norm("norm", theirs.ln_f)
    for i, layer in enumerate(theirs.h):
        at = f"layers.{i}"
        convs = {"attention.qkv": layer.attn.c_attn, "attention.out": layer.attn.c_proj}
        convs |= {"feed.up": layer.mlp.c_fc, "feed.down": layer.mlp.c_proj}
        for name, conv in convs.items():
            weights |= {f"{at}.{name}.weight": conv.weight.T, f"{at}.{name}.bias": conv.bias}
        weights |= norm(f"{at}.norm_attention", layer.ln_1) | norm(f"{at}.norm_feed", layer.ln_2)
    fill(ours, weights)
    xs = [theirs.wte(ids) + theirs.wpe.weight[: ids.shape[1]] for ids in IDS]
    expected = [theirs(ids).last_hidden_state for ids in IDS]
    check(packed(ours, xs, CAUSAL), expected)
    check_stepwise(ours, xs[0], expected[0])


def llama_weights(theirs: nn.Module, *, head_norms: bool = False) -> dict[str, Tensor]:
    weights = norm("norm", theirs.norm)
    for i, layer in enumerate(theirs.layers):
        at, attn = f"layers.{i}", layer.self_attn
        weights |= linear(f"{at}.attention.qkv", attn.q_proj, attn.k_proj, attn.v_proj)
        weights |= linear(f"{at}.attention.out", attn.o_proj) | linear(f"{at}.feed.down", layer.mlp.down_proj)
        weights |= linear(f"{at}.feed.up", layer.mlp.gate_proj, layer.mlp.up_proj)
        weights |= norm(f"{at}.norm_attention", layer.input_layernorm)
        weights |= norm(f"{at}.norm_feed", layer.post_attention_layernorm)
        if head_norms:
            weights |= norm(f"{at}.attention.q_norm", attn.q_norm) | norm(f"{at}.attention.k_norm", attn.k_norm)
    return weights


SIZES = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "intermediate_size": 48, "rms_norm_eps": 1e-6}
OURS = {
    "n_kv_heads": 2,
    "hidden": 48,
    "norm": "rms",
    "norm_eps": 1e-6,
    "activation": "silu",
    "gated": True,
    "bias": False,
}


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_llama_and_qwen(family: str) -> None:
    name = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[family]
    head_dim = 16 if family == "qwen3" else 8
    sizes = SIZES | ({"head_dim": 16} if family == "qwen3" else {})
    config = getattr(hf, f"{name}Config")(**sizes)
    theirs = randomise(getattr(hf, f"{name}Model")(config))
    c = TransformerConfig(32, 2, 4, **OURS, head_dim=head_dim, qkv_bias=family == "qwen2")

    def qwen3_layer(_: int) -> Layer:
        norms = {name: nn.RMSNorm(head_dim, eps=1e-6) for name in ("q_norm", "k_norm")}
        return Layer(c, attention=Attention(c, **norms))

    theta = float(config.rope_parameters["rope_theta"])
    layer = qwen3_layer if family == "qwen3" else None
    ours = Transformer(c, position=Rotary(head_dim, theta), layer=layer)
    fill(ours, llama_weights(theirs, head_norms=family == "qwen3"))
    xs = [theirs.embed_tokens(ids) for ids in IDS]
    expected = [theirs(ids).last_hidden_state for ids in IDS]
    check(packed(ours, xs, CAUSAL), expected)
    check_stepwise(ours, xs[0], expected[0])


def t5_weights(theirs: nn.Module, *, gated: bool) -> dict[str, Tensor]:
    weights = norm("norm", theirs.final_layer_norm)
    weights["bias.table.weight"] = theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    for i, block in enumerate(theirs.block):
        at, attn, feed = f"layers.{i}", block.layer[0].SelfAttention, block.layer[-1].DenseReluDense
        weights |= linear(f"{at}.attention.qkv", attn.q, attn.k, attn.v) | linear(f"{at}.attention.out", attn.o)
        weights |= norm(f"{at}.norm_attention", block.layer[0].layer_norm)
        if len(block.layer) == 3:
            cross = block.layer[1].EncDecAttention
            weights |= linear(f"{at}.cross.q", cross.q) | linear(f"{at}.cross.kv", cross.k, cross.v)
            weights |= linear(f"{at}.cross.out", cross.o) | norm(f"{at}.norm_cross", block.layer[1].layer_norm)
        ups = (feed.wi_0, feed.wi_1) if gated else (feed.wi,)
        weights |= linear(f"{at}.feed.up", *ups) | linear(f"{at}.feed.down", feed.wo)
        weights |= norm(f"{at}.norm_feed", block.layer[-1].layer_norm)
    return weights


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
def test_t5(gated: bool) -> None:
    kind = "gated-gelu" if gated else "relu"
    theirs = randomise(
        hf.T5Model(
            hf.T5Config(vocab_size=40, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj=kind)
        )
    )
    sizes = {"hidden": 48, "norm": "rms", "norm_eps": 1e-6, "bias": False, "head_dim": 16, "gated": gated}
    c = TransformerConfig(32, 2, 4, **sizes, activation="gelu_tanh" if gated else "relu")

    def encoder_layer(_: int) -> Layer:
        return Layer(c, attention=Attention(c, scale=1.0))

    def decoder_layer(_: int) -> Layer:
        return Layer(c, attention=Attention(c, scale=1.0), cross=CrossAttention(c, scale=1.0))

    encoder = Transformer(c, bias=RelativeBias(4), layer=encoder_layer)
    decoder = Transformer(c, bias=RelativeBias(4, causal=True), layer=decoder_layer)
    fill(encoder, t5_weights(theirs.encoder, gated=gated))
    fill(decoder, t5_weights(theirs.decoder, gated=gated))

    sources = [torch.arange(n)[None] % 40 for n in (150, 9, 4)]  # the first is longer than the table of distances
    told = [theirs(input_ids=s, decoder_input_ids=ids) for s, ids in zip(sources, IDS, strict=True)]
    seen = packed(encoder, [theirs.shared(s) for s in sources], FULL)
    check(seen, [t.encoder_last_hidden_state for t in told])

    xs = [theirs.shared(ids) for ids in IDS]
    context_mask = Mask("full", lengths=LENGTHS, key_lengths=(150, 9, 4))
    out = packed(decoder, xs, CAUSAL, context=torch.cat(seen, dim=1), context_mask=context_mask)
    check(out, [t.last_hidden_state for t in told])

    state = KVState()
    first = decoder(xs[0][:, :3], CAUSAL, state, seen[0])
    rest = decoder(xs[0][:, 3:], CAUSAL, state)  # the state holds the context's keys
    check([torch.cat((first, rest), dim=1)], [told[0].last_hidden_state])


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
