"""Point-BERT (Yu et al. 2022): section 3, patch by patch and head by head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mmworld.modalities.pointcloud.dvae import DVAE, DVAEConfig, losses
from mmworld.modalities.pointcloud.pointbert import MaskedPointBert, PointBertClassifier, PointBertConfig, mask_block
from mmworld.models.zoo.parity.case import Pairs
from mmworld.models.zoo.parity.equations.pointnet2 import farthest

SIZES = PointBertConfig(24, 2, 3, group_size=8, num_group=6, encoder_dims=20, cls_dim=5)
WORDS = DVAEConfig(group_size=8, num_group=6, encoder_dims=20, num_tokens=16, tokens_dims=12, decoder_dims=8)


def shaken(model: Any) -> Any:
    """The model in float64, no part of it without effect."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
        for name, x in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                x.add_(torch.rand_like(x))
    return model.double().eval()


def tiny() -> tuple[PointBertClassifier, MaskedPointBert]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return shaken(PointBertClassifier(SIZES)), shaken(MaskedPointBert(SIZES, WORDS))


def linear(layer: Any, x: Tensor) -> Tensor:
    y = layer.weight.flatten(1) @ x
    return y if layer.bias is None else y + layer.bias


def trained(norm: Any, x: Tensor) -> Tensor:
    """Batch norm by the statistics of training."""
    return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


def normed(norm: Any, x: Tensor) -> Tensor:
    """Layer norm of one token."""
    spread = (x - x.mean()).square().mean()
    return (x - x.mean()) / (spread + norm.eps).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def nearest(xyz: Tensor, centre: Tensor, k: int) -> list[int]:
    return sorted(range(len(xyz)), key=lambda i: math.dist(xyz[i], centre))[:k]


def patches(points: Tensor, n: int, k: int) -> tuple[list[Tensor], Tensor]:
    """Of one cloud [P, C]: neighbours of each centre, places relative to it, and the centres."""
    xyz = points[:, :3]
    centres = xyz[farthest(xyz, n)]
    beside = torch.zeros_like(points[0, 3:])
    return [points[nearest(xyz, c, k)] - torch.cat((c, beside)) for c in centres], centres


def token(net: Any, patch: Tensor) -> Tensor:
    """A patch [K, 3] through the small PointNet."""

    def unit(layers: Any, x: Tensor) -> Tensor:
        return linear(layers[3], trained(layers[1], linear(layers[0], x)).clamp_min(0))

    points = [unit(net.first, p) for p in patch]
    most = torch.stack(points).amax(0)
    return torch.stack([unit(net.second, torch.cat((most, p))) for p in points]).amax(0)


def attended(attention: Any, x: list[Tensor]) -> list[Tensor]:
    width, heads = attention.head_dim, attention.n_heads
    rows = [linear(attention.qkv, t).view(3, heads, width) for t in x]
    out = []
    for q, _, _ in rows:
        found = []
        for h in range(heads):
            logits = torch.stack([q[h] @ k[h] / math.sqrt(width) for _, k, _ in rows])
            weights = logits.exp() / logits.exp().sum()
            found.append(sum(w * v[h] for w, (_, _, v) in zip(weights, rows, strict=True)))
        out.append(linear(attention.out, torch.cat(found)))
    return out


def transformed(net: Any, x: list[Tensor], centres: Tensor) -> list[Tensor]:
    """The whole's token before those of patches; places are added before every layer."""
    places = [net.token_place, *(linear(net.place[2], gelu(linear(net.place[0], c))) for c in centres)]
    x = [net.token, *x]
    for placed in net.backbone.layers:
        layer = placed.layer
        x = [a + b for a, b in zip(x, places, strict=True)]
        seen = attended(layer.attention, [normed(layer.norm_attention, t) for t in x])
        x = [a + b for a, b in zip(x, seen, strict=True)]
        fed = [linear(layer.feed.down, gelu(linear(layer.feed.up, normed(layer.norm_feed, t)))) for t in x]
        x = [a + b for a, b in zip(x, fed, strict=True)]
    return [normed(net.backbone.norm, t) for t in x]


def encoded(net: Any, points: Tensor) -> list[Tensor]:
    """One cloud to the token of the whole and those of its patches."""
    near, centres = patches(points, net.config.num_group, net.config.group_size)
    return transformed(net, [linear(net.reduce, token(net.patch, p)) for p in near], centres)


def scored(model: PointBertClassifier, points: Tensor) -> Tensor:
    whole, *rest = encoded(model.encoder, points)
    x = torch.cat((whole, torch.stack(rest).amax(0)))
    return linear(model.head[3], linear(model.head[0], x).clamp_min(0))


def masked(model: MaskedPointBert, points: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the words of all patches, and the whole."""
    near, centres = patches(points, SIZES.num_group, SIZES.group_size)
    net = model.encoder
    x = [model.unseen if u else linear(net.reduce, token(net.patch, p)) for u, p in zip(unseen, near, strict=True)]
    whole, *rest = transformed(net, x, centres)
    said = torch.stack([linear(model.words, t) for t in rest])
    return said, linear(model.whole[2], gelu(linear(model.whole[0], whole)))


def grouped(norm: Any, x: Tensor) -> Tensor:
    """Group norm of [N, C]: a group's channels of all tokens at once."""
    out = []
    for part, w, b in zip(x.chunk(4, 1), norm.weight.chunk(4), norm.bias.chunk(4), strict=True):
        spread = (part - part.mean()).square().mean()
        out.append((part - part.mean()) / (spread + norm.eps).sqrt() * w + b)
    return torch.cat(out, dim=1)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def convolved(net: Any, x: list[Tensor], centres: Tensor) -> Tensor:
    """Patches through the edge convolutions, to [N, D]."""
    x, found = [linear(net.first, t) for t in x], []
    for edge in net.edges:
        pairs = [torch.cat((x[j] - x[i], x[i])) for i, c in enumerate(centres) for j in nearest(centres, c, 4)]
        seen = leaky(grouped(edge[1], torch.stack([linear(edge[0], p) for p in pairs])))
        x = list(seen.unflatten(0, (-1, 4)).amax(1))
        found.append(torch.stack(x))
    return leaky(grouped(net.last[1], torch.stack([linear(net.last[0], t) for t in torch.cat(found, dim=1)])))


def folded(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """A patch's features to coarse and fine points."""
    h = linear(net.mlp[2], linear(net.mlp[0], x).clamp_min(0)).clamp_min(0)
    coarse, fine = linear(net.mlp[4], h).view(-1, 3), []
    for point in coarse:
        for v in (-0.05, 0.05):
            for u in (-0.05, 0.05):
                y = torch.cat((x, torch.tensor([u, v]).double(), point))
                for i in (0, 3):
                    y = trained(net.fold[i + 1], linear(net.fold[i], y)).clamp_min(0)
                fine.append(linear(net.fold[6], y) + point)
    return coarse, torch.stack(fine)


def rebuilt(model: DVAE, points: Tensor, temperature: float, noise: Tensor) -> tuple[Any, ...]:
    """Patches, scores of words, coarse and fine points of one cloud."""
    near, centres = patches(points, WORDS.num_group, WORDS.group_size)
    logits = convolved(model.to_words, [token(model.patch, p) for p in near], centres)
    x = []
    for row in (logits + noise) / temperature:
        x.append((row.exp() / row.exp().sum()) @ model.codebook)
    parts = [folded(model.decoder, t) for t in convolved(model.from_words, x, centres)]
    return near, logits, [c for c, _ in parts], [f for _, f in parts]


def away(a: Tensor, b: Tensor) -> float:
    """Chamfer's distance of two sets of points, by all pairs."""
    there = [min(math.dist(p, q) for q in b) for p in a]
    back = [min(math.dist(p, q) for p in a) for q in b]
    return (sum(there) / len(there) + sum(back) / len(back)) / 2


def lost(clouds: list[tuple[Any, ...]]) -> tuple[float, float]:
    """Of rebuilding, patch by patch, and of uneven use of the words, cloud by cloud."""
    near, coarse, fine = ([p for cloud in clouds for p in cloud[i]] for i in (0, 2, 3))
    built = sum(away(c, n) + away(f, n) for n, c, f in zip(near, coarse, fine, strict=True)) / len(near)
    uneven = 0.0
    for _, logits, *_ in clouds:
        used = torch.stack([row.exp() / row.exp().sum() for row in logits]).mean(0)
        uneven += sum(math.log(1 / (len(used) * q)) / len(used) for q in used.tolist()) / len(clouds)
    return built, uneven


def named(scores: Tensor, words: Tensor, unseen: Tensor) -> float:
    """Mean of -log p of the words of patches that are not seen, of all clouds."""
    every = [
        math.log(sum(s.exp())) - float(s[w])
        for cloud, right, where in zip(scores, words, unseen, strict=True)
        for s, w, u in zip(cloud, right, where, strict=True)
        if u
    ]
    return sum(every) / len(every)


def compare() -> Pairs:
    """Of two clouds: classes, words of masked patches, and the tokenizer with given noise; then the losses."""
    classifier, model = tiny()
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(2, 20, 3, dtype=torch.float64, generator=draw)
    yield classifier(points), torch.stack([scored(classifier, p) for p in points])

    near, centres = model.encoder.group(points)
    unseen = mask_block(centres, 0.5, torch.Generator().manual_seed(2))
    told = [masked(model, p, u) for p, u in zip(points, unseen, strict=True)]
    scores = torch.stack([s for s, _ in told])
    yield from zip(model(near, centres, unseen), (scores, torch.stack([w for _, w in told])), strict=True)

    noise = torch.randn(2, 6, 16, dtype=torch.float64, generator=draw)
    got = model.tokenizer(points, 0.7, noise)
    clouds = [rebuilt(model.tokenizer, p, 0.7, n) for p, n in zip(points, noise, strict=True)]
    yield got.logits, torch.stack([c[1] for c in clouds])
    yield got.coarse, torch.stack([torch.stack(c[2]) for c in clouds])
    yield got.fine, torch.stack([torch.stack(c[3]) for c in clouds])
    for loss, by_hand in zip(losses(got), lost(clouds), strict=True):
        yield loss, torch.tensor(by_hand, dtype=torch.float64)
    words = torch.stack([c[1] for c in clouds]).argmax(-1)
    by_hand = named(scores, words, unseen)
    yield model.loss(points, 0.5, torch.Generator().manual_seed(2)), torch.tensor(by_hand, dtype=torch.float64)
