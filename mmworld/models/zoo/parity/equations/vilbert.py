"""ViLBERT (Lu et al. 2019): figures 1 and 2, one text and one picture at a time, token by token and head by head.

The weights are taken by the names under which they were released, so that what a name stands for is compared, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import Pairs, ids
from mmworld.models.zoo.parity.equations.pointbert import gelu, shaken
from mmworld.models.zoo.vilbert import ViLBERT
from mmworld.models.zoo.vilbert_tasks import ViLBERTTasks, vilbert

Weights = Mapping[str, Tensor]
Row = list[Tensor]
"""The tokens of one text or one picture, each [D]."""
SOURCE: dict[str, Any] = {
    **{"model_type": "vilbert", "vocab_size": 40, "max_position_embeddings": 12, "fusion_method": "sum"},
    **{"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 40},
    **{"v_hidden_size": 16, "v_num_hidden_layers": 3, "v_num_attention_heads": 2, "v_intermediate_size": 28},
    **{"v_hidden_act": "relu", "v_feature_size": 14, "v_target_size": 11},
    **{"bi_hidden_size": 20, "bi_num_attention_heads": 5, "t_biattention_id": [1, 3], "v_biattention_id": [0, 2]},
}
TASKS: dict[str, Any] = {
    **SOURCE,
    **{"architectures": ["VILBertForVLTasks"], "fusion_method": "mul", "task_specific_tokens": True},
}


def tiny(source: Mapping[str, Any] = SOURCE) -> Any:
    """A model of random weights, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return shaken(vilbert(source))


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return w[f"{name}.weight"] @ x + w[f"{name}.bias"]


def normed(w: Weights, name: str, x: Tensor) -> Tensor:
    away = x - x.mean()
    return away / (away.square().mean() + 1e-12).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def attended(w: Weights, names: Sequence[str], own: Row, other: Row, heads: int) -> Row:
    """What each token finds in a row, for the names of the queries, keys and values (section 2.1)."""
    keys, values = ([linear(w, name, t).chunk(heads) for t in other] for name in names[1:])
    out = []
    for t in own:
        found = []
        for h, q in enumerate(linear(w, names[0], t).chunk(heads)):
            odds = torch.stack([torch.exp(q @ k[h] / len(q) ** 0.5) for k in keys])
            found.append(odds / odds.sum() @ torch.stack([v[h] for v in values]))
        out.append(torch.cat(found))
    return out


def added(w: Weights, dense: str, norm: str, found: Row, x: Row) -> Row:
    return [normed(w, norm, linear(w, dense, f) + t) for f, t in zip(found, x, strict=True)]


def fed(w: Weights, up: str, down: str, x: Row, regions: bool) -> Row:
    """The feed-forward; in the stream of regions it has an activation of its own."""
    hidden = [linear(w, f"{up}.dense", t) for t in x]
    active = [t.clamp_min(0) if regions else gelu(t) for t in hidden]
    return added(w, f"{down}.dense", f"{down}.LayerNorm", active, x)


def layer(w: Weights, at: str, x: Row, heads: int, regions: bool) -> Row:
    """Figure 2a."""
    names = [f"{at}.attention.self.{n}" for n in ("query", "key", "value")]
    out = f"{at}.attention.output"
    x = added(w, f"{out}.dense", f"{out}.LayerNorm", attended(w, names, x, x, heads), x)
    return fed(w, f"{at}.intermediate", f"{at}.output", x, regions)


def met(w: Weights, at: str, text: Row, regions: Row, heads: int) -> tuple[Row, Row]:
    """Figure 2b; 1 is of the regions, 2 of the text."""
    rows = []
    for own, other, x, y in ((2, 1, text, regions), (1, 2, regions, text)):
        names = [f"{at}.biattention.{n}" for n in (f"query{own}", f"key{other}", f"value{other}")]
        out, stream = f"{at}.biOutput", "vt"[own - 1]
        x = added(w, f"{out}.dense{own}", f"{out}.LayerNorm{own}", attended(w, names, x, y, heads), x)
        rows.append(fed(w, f"{at}.{stream}_intermediate", f"{at}.{stream}_output", x, stream == "v"))
    return rows[0], rows[1]


def read(w: Weights, words: Sequence[int], types: Sequence[int], task: int | None) -> Row:
    """Words, their places and types; a task's token, which has neither, stands after the first."""
    at = "bert.embeddings"
    word, place, kind = (w[f"{at}.{name}_embeddings.weight"] for name in ("word", "position", "token_type"))
    x = [word[i] + place[k] + kind[t] for k, (i, t) in enumerate(zip(words, types, strict=True))]
    if task is not None:
        x.insert(1, w[f"{at}.task_embeddings.weight"][task])
    return [normed(w, f"{at}.LayerNorm", t) for t in x]


def seen(w: Weights, features: Tensor, boxes: Tensor) -> Row:
    at = "bert.v_embeddings"
    pairs = zip(features, boxes, strict=True)
    x = [linear(w, f"{at}.image_embeddings", f) + linear(w, f"{at}.image_location_embeddings", b) for f, b in pairs]
    return [normed(w, f"{at}.LayerNorm", t) for t in x]


def streams(w: Weights, c: Mapping[str, Any], text: Row, regions: Row) -> tuple[Row, Row]:
    """Figure 1: a walk over the layers of either stream; where both have come to a place where they meet, they do."""
    t = v = 0
    meetings = list(enumerate(zip(c["t_biattention_id"], c["v_biattention_id"], strict=True)))
    while meetings or t < c["num_hidden_layers"] or v < c["v_num_hidden_layers"]:
        t_end, v_end = meetings[0][1] if meetings else (c["num_hidden_layers"], c["v_num_hidden_layers"])
        if t < t_end:
            text, t = layer(w, f"bert.encoder.layer.{t}", text, c["num_attention_heads"], False), t + 1
        elif v < v_end:
            regions, v = layer(w, f"bert.encoder.v_layer.{v}", regions, c["v_num_attention_heads"], True), v + 1
        else:
            text, regions = met(
                w, f"bert.encoder.c_layer.{meetings.pop(0)[0]}", text, regions, c["bi_num_attention_heads"]
            )
    return text, regions


def pooled(w: Weights, how: str, text: Row, regions: Row) -> Tensor:
    """Of the first word and the whole picture."""
    a, b = (linear(w, f"bert.{s}_pooler.dense", x[0]).clamp_min(0) for s, x in (("t", text), ("v", regions)))
    return a * b if how == "mul" else a + b


def transformed(w: Weights, name: str, x: Tensor) -> Tensor:
    return normed(w, f"{name}.transform.LayerNorm", gelu(linear(w, f"{name}.transform.dense", x)))


def classified(w: Weights, name: str, x: Tensor) -> Tensor:
    hidden = gelu(linear(w, f"{name}.logit_fc.0", x))
    return linear(w, f"{name}.logit_fc.3", normed(w, f"{name}.logit_fc.2", hidden))


def paper(w: Weights, c: Mapping[str, Any], text: Row, regions: Row) -> dict[str, Tensor]:
    """Both streams of one pair from their first layer, what they are pooled to, and the heads of pre-training."""
    text, regions = streams(w, c, text, regions)
    whole, said, shown = pooled(w, c["fusion_method"], text, regions), "cls.predictions", "cls.imagePredictions"
    table, bias = w["bert.embeddings.word_embeddings.weight"], w[f"{said}.bias"]
    return {
        "text": torch.stack(text),
        "regions": torch.stack(regions),
        "pair": whole,
        "logits": torch.stack([table @ transformed(w, said, t) + bias for t in text]),
        "kinds": torch.stack([linear(w, f"{shown}.decoder", transformed(w, shown, t)) for t in regions]),
        "aligned": linear(w, "cls.bi_seq_relationship", whole),
    }


def asked(w: Weights, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """12-in-1: the scores of each task but that of two pictures."""
    return {
        "vqa": classified(w, "vil_prediction", made["pair"]),
        "gqa": classified(w, "vil_prediction_gqa", made["pair"]),
        "fits": linear(w, "vil_logit", made["pair"]),
        "entails": linear(w, "vil_tri_prediction", made["pair"]),
        "meant": torch.stack([linear(w, "vision_logit", t) for t in made["regions"]]),
    }


def ours(model: ViLBERT, *shown: Tensor | None) -> dict[str, Tensor]:
    """The same of a batch, by the module."""
    text, regions = model(*shown)
    pair = model.pool(text, regions)
    made = {"text": text, "regions": regions, "pair": pair}
    made |= {"logits": model.logits(text), "kinds": model.kinds(regions), "aligned": model.aligned(pair)}
    if isinstance(model, ViLBERTTasks):
        made |= {name: getattr(model, name)(pair) for name in ("vqa", "gqa", "fits", "entails")}
        made |= {"meant": model.meant(regions), "true": model.true(pair.flatten()[None])}
    return made


def pairs(model: ViLBERT, source: Mapping[str, Any]) -> Pairs:
    """Of two texts and pictures."""
    draw, w = torch.Generator().manual_seed(1), model.keymap.theirs(model.state_dict(keep_vars=True))
    words, types = torch.cat((ids(6), ids(6, 1))), torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]])
    features, boxes = (torch.randn(2, 5, n, dtype=torch.float64, generator=draw) for n in (14, 5))
    tasks = torch.tensor([1, 12]) if source.get("task_specific_tokens") else None
    want = []
    for b in range(2):
        task = None if tasks is None else int(tasks[b])
        made = paper(w, source, read(w, words[b].tolist(), types[b].tolist(), task), seen(w, features[b], boxes[b]))
        want.append(made if task is None else made | asked(w, made))
    got = ours(model, words, features, boxes, types, tasks)
    if "true" in got:
        yield got.pop("true")[0], classified(w, "vil_binary_prediction", torch.cat([t["pair"] for t in want]))
    for name, x in got.items():
        yield x, torch.stack([t[name] for t in want])


def compare() -> Pairs:
    """Of pre-training, and of a checkpoint of many tasks."""
    for source in (SOURCE, TASKS):
        yield from pairs(tiny(source), source)
