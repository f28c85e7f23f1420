"""ViLBERT: co-attention against LXMERT's, what every weight and region does, and the names that were released."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from torch import Tensor, nn

import mmworld
from mmworld.errors import CheckpointError, ConfigError
from mmworld.fusion import coattention
from mmworld.models.zoo import save
from mmworld.models.zoo.parity.equations.vilbert import SOURCE, TASKS, ours, pairs, tiny
from mmworld.models.zoo.vilbert import ViLBERT, located
from mmworld.models.zoo.vilbert_tasks import ViLBERTTasks, vilbert
from mmworld.nn.attention import Pass
from mmworld.nn.layer import TransformerConfig

lxmert = pytest.importorskip("transformers.models.lxmert.modeling_lxmert", reason="the extra 'dev' is not installed")
SEEDS = st.integers(0, 2**32)


def theirs(seed: int) -> tuple[Any, TransformerConfig]:
    """Sizes that LXMERT can have: both streams and the heads where they meet are as wide as each other."""
    heads, wide, hidden = 1 + seed % 3, 4 + 2 * (seed % 4), 20 + seed % 5
    c = lxmert.LxmertConfig(hidden_size=heads * wide, num_attention_heads=heads, intermediate_size=hidden)
    return c, TransformerConfig(heads * wide, 1, heads, hidden=hidden, norm_eps=1e-12, order="post")


def shaken(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return module.double().eval()


def put(module: nn.Module, weights: Mapping[str, Tensor], **names: str) -> nn.Module:
    """Fill the parts of a module of theirs from those names."""
    for part, name in names.items():
        at = module.get_submodule(part.replace("__", "."))
        at.load_state_dict({p: weights[f"{name}.{p}"] for p in ("weight", "bias")})
    return module.double().eval()


@torch.no_grad()
@given(seed=SEEDS, words=st.integers(1, 6), regions=st.integers(1, 6))
def test_where_streams_meet_each_does_what_lxmert_s_cross_attention_does(seed: int, words: int, regions: int) -> None:
    torch.manual_seed(seed)
    config, c = theirs(seed)
    meet: Any = shaken(coattention.CoAttention(c, c))
    w = coattention.names(c.dim).theirs(meet.state_dict())
    x, y = (torch.randn(2, n, c.dim, dtype=torch.float64) for n in (words, regions))
    got = meet(x, y)
    for found, own, other, stream, a, b in ((got[0], 2, 1, "t", x, y), (got[1], 1, 2, "v", y, x)):
        cross = put(
            lxmert.LxmertCrossAttentionLayer(config),
            w,
            att__query=f"biattention.query{own}",
            att__key=f"biattention.key{other}",
            att__value=f"biattention.value{other}",
            output__dense=f"biOutput.dense{own}",
            output__LayerNorm=f"biOutput.LayerNorm{own}",
        )
        up = put(lxmert.LxmertIntermediate(config), w, dense=f"{stream}_intermediate.dense")
        names = {n: f"{stream}_output.{n}" for n in ("dense", "LayerNorm")}
        down = put(lxmert.LxmertOutput(config), w, **names)
        looked = cross(a, b)[0]
        layer = meet.words if stream == "t" else meet.regions
        assert relative_error(layer.attend(a, Pass(context=b), 0), looked) <= 1e-12
        assert relative_error(found, down(up(looked), looked)) <= 1e-12


@torch.no_grad()
@pytest.mark.parametrize("stream", ["words", "regions"])
def test_a_stream_s_layer_does_what_lxmert_s_does(stream: str) -> None:
    model = tiny({**SOURCE, "v_hidden_act": "gelu"})
    c, at = model.config, "v_" if stream == "regions" else ""
    sizes = {n: getattr(c, f"{at}{n}") for n in ("hidden_size", "num_attention_heads", "intermediate_size")}
    root = f"bert.encoder.{at}layer.1."
    weights = model.keymap.theirs(model.state_dict())
    layer = lxmert.LxmertLayer(lxmert.LxmertConfig(**sizes)).double().eval()
    layer.load_state_dict({n.removeprefix(root): x for n, x in weights.items() if n.startswith(root)})
    x = torch.randn(2, 5, sizes["hidden_size"], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert relative_error(getattr(model, stream)[1](x, Pass(), 1), layer(x)[0]) <= 1e-12


@pytest.mark.parametrize("source", [SOURCE, TASKS], ids=["pre-training", "tasks"])
def test_every_weight_has_a_part_in_what_is_compared(source: dict[str, Any]) -> None:
    model, sums = tiny(source), []
    draws = torch.Generator().manual_seed(0)
    for got, want in pairs(model, source):
        assert relative_error(got, want) <= 1e-12
        sums.append((got * torch.randn(got.shape, dtype=got.dtype, generator=draws)).sum())
    torch.stack(sums).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def shown(seed: int = 0, n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, features and boxes of two pairs."""
    draw = torch.Generator().manual_seed(seed)
    features, boxes = (torch.randn(2, n, d, dtype=torch.float64, generator=draw) for d in (14, 5))
    return torch.randint(0, 40, (2, 7), generator=draw), features, boxes


@torch.no_grad()
@given(SEEDS)
def test_regions_behind_the_whole_picture_have_no_order(seed: int) -> None:
    ids, features, boxes = shown(seed)
    turn = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    model, order = tiny(), torch.cat((torch.zeros(1, dtype=torch.long), 1 + turn))
    words, regions = model(ids, features, boxes)
    again, turned = model(ids, features[:, order], boxes[:, order])
    assert relative_error(again, words) <= 1e-12
    assert relative_error(turned, regions[:, order]) <= 1e-12


@torch.no_grad()
def test_without_types_all_words_are_of_the_first() -> None:
    ids, features, boxes = shown()
    model = tiny()
    for got, want in zip(model(ids, features, boxes), model(ids, features, boxes, ids * 0), strict=True):
        assert torch.equal(got, want)


def test_boxes_are_shares_of_the_picture_which_comes_first() -> None:
    features = torch.arange(6.0).view(2, 3)
    corners = torch.tensor([[10.0, 5.0, 20.0, 45.0], [0.0, 0.0, 40.0, 50.0]])
    seen, boxes = located(features, corners, width=40, height=50)
    torch.testing.assert_close(seen, torch.tensor([[1.5, 2.5, 3.5], [0, 1, 2], [3, 4, 5]]))
    first = [10 / 40, 5 / 50, 20 / 40, 45 / 50, 10 * 40 / (40 * 50)]
    torch.testing.assert_close(boxes, torch.tensor([[0, 0, 1, 1, 1], first, [0, 0, 1, 1, 1]]))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"t_biattention_id": [3, 1]}, "must not fall"),
        ({"v_biattention_id": [0, 3]}, "nor pass layer 2"),
        ({"v_biattention_id": [-1, 2]}, "greater than or equal to 0"),
        ({"v_biattention_id": [0, 1, 2]}, "2 in t_biattention_id and 3 in v_biattention_id"),
        ({"bi_num_attention_heads": 3}, "bi_hidden_size 20 is no multiple of bi_num_attention_heads 3"),
        ({"v_num_attention_heads": 3}, "16 is no multiple of n_heads 3"),
        ({"model": "roberta"}, "model: input should be 'bert'"),
        ({"dynamic_attention": True}, "dynamic_attention: input should be false"),
        ({"architectures": ["BertModel"]}, "BertModel is none of BertForMultiModalPreTraining, VILBertForVLTasks"),
    ],
)
def test_what_is_not_supported_is_refused(said: dict[str, Any], why: str) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=why):
        vilbert({**SOURCE, **said})


def test_tasks_are_told_to_those_that_have_them() -> None:
    with pytest.raises(ValueError, match="task_specific_tokens is False"):
        tiny()(*shown(), tasks=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="tasks are None"):
        tiny(TASKS)(*shown())


SIX: dict[str, Any] = {
    **{"hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "max_position_embeddings": 512},
    **{"num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522},
    **{"v_feature_size": 2048, "v_target_size": 1601, "v_hidden_size": 1024, "v_num_hidden_layers": 6},
    **{"v_num_attention_heads": 8, "v_intermediate_size": 1024, "v_hidden_act": "gelu", "bi_hidden_size": 1024},
    **{"bi_num_attention_heads": 8, "bi_intermediate_size": 1024, "bi_attention_type": 1, "pooling_method": "mul"},
    **{"v_biattention_id": [0, 1, 2, 3, 4, 5], "t_biattention_id": [6, 7, 8, 9, 10, 11]},
    "model_type": "vilbert",
}
"""What bert_base_6layer_6conect.json says, with which both files were released."""
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, c_in: int) -> Shapes:
    return {f"{name}.weight": (out, c_in), f"{name}.bias": (out,)}


def norm(name: str, d: int) -> Shapes:
    return {f"{name}.weight": (d,), f"{name}.bias": (d,)}


def stream(at: str, d: int, hidden: int) -> Shapes:
    found = {k: v for n in ("query", "key", "value") for k, v in linear(f"{at}.attention.self.{n}", d, d).items()}
    found |= linear(f"{at}.attention.output.dense", d, d) | norm(f"{at}.attention.output.LayerNorm", d)
    found |= linear(f"{at}.intermediate.dense", hidden, d) | linear(f"{at}.output.dense", d, hidden)
    return found | norm(f"{at}.output.LayerNorm", d)


def meeting(at: str) -> Shapes:
    found: Shapes = {}
    for i, kind, d, hidden in ((1, "v", 1024, 1024), (2, "t", 768, 3072)):
        for n in ("query", "key", "value"):
            found |= linear(f"{at}.biattention.{n}{i}", 1024, d)
        found |= linear(f"{at}.biOutput.dense{i}", d, 1024) | norm(f"{at}.biOutput.LayerNorm{i}", d)
        found |= linear(f"{at}.{kind}_intermediate.dense", hidden, d) | linear(f"{at}.{kind}_output.dense", d, hidden)
        found |= norm(f"{at}.{kind}_output.LayerNorm", d)
    return found


def pretrained() -> Shapes:
    """Of pretrained_model.bin, as far as it is used."""
    tables = {"word": 30522, "position": 512, "token_type": 2}
    found: Shapes = {f"bert.embeddings.{n}_embeddings.weight": (rows, 768) for n, rows in tables.items()}
    found |= norm("bert.embeddings.LayerNorm", 768) | norm("bert.v_embeddings.LayerNorm", 1024)
    found |= linear("bert.v_embeddings.image_embeddings", 1024, 2048)
    found |= linear("bert.v_embeddings.image_location_embeddings", 1024, 5)
    for i in range(12):
        found |= stream(f"bert.encoder.layer.{i}", 768, 3072)
    for i in range(6):
        found |= stream(f"bert.encoder.v_layer.{i}", 1024, 1024) | meeting(f"bert.encoder.c_layer.{i}")
    found |= linear("bert.t_pooler.dense", 1024, 768) | linear("bert.v_pooler.dense", 1024, 1024)
    found |= {"cls.predictions.bias": (30522,)} | linear("cls.predictions.transform.dense", 768, 768)
    found |= norm("cls.predictions.transform.LayerNorm", 768) | linear("cls.bi_seq_relationship", 2, 1024)
    found |= linear("cls.imagePredictions.transform.dense", 1024, 1024)
    found |= norm("cls.imagePredictions.transform.LayerNorm", 1024)
    return found | linear("cls.imagePredictions.decoder", 1601, 1024)


def of_tasks() -> Shapes:
    """What multi_task_model.bin has beside it."""
    found: Shapes = {"bert.embeddings.task_embeddings.weight": (20, 768)}
    for name, c_in, classes in (
        ("vil_prediction", 1024, 3129),
        ("vil_prediction_gqa", 1024, 1533),
        ("vil_binary_prediction", 2048, 2),
    ):
        found |= linear(f"{name}.logit_fc.0", 2048, c_in) | norm(f"{name}.logit_fc.2", 2048)
        found |= linear(f"{name}.logit_fc.3", classes, 2048)
    found |= linear("vil_logit", 1, 1024) | linear("vil_tri_prediction", 3, 1024)
    return found | linear("vision_logit", 1, 1024)


def left_out(d: int = 768, v: int = 1024, bi: int = 1024, words: int = 30522, meetings: int = 6) -> Shapes:
    """What both have and nothing uses: a copy of the words' table, and projections that are never called."""
    found: Shapes = {"cls.predictions.decoder.weight": (words, d)}
    for i in range(meetings):
        found |= linear(f"bert.encoder.c_layer.{i}.biOutput.q_dense1", v, bi)
        found |= linear(f"bert.encoder.c_layer.{i}.biOutput.q_dense2", d, bi)
    return found


def test_names_and_shapes_are_those_that_were_released() -> None:
    more = {"architectures": ["VILBertForVLTasks"], "task_specific_tokens": True}
    for said, want, rest in (
        ({}, pretrained(), left_out()),
        (more, pretrained() | of_tasks(), left_out() | linear("linguisic_logit", 1, 768)),
    ):
        with torch.device("meta"):
            model = vilbert({**SIX, **said})
            file = {n: torch.empty(shape) for n, shape in (want | rest).items()}
        assert {n: tuple(x.shape) for n, x in model.keymap.theirs(model.state_dict()).items()} == want
        model.keymap.check(model, file, where="file")
        with pytest.raises(CheckpointError, match=r"unknown: bert\.pooler\.dense\.bias"):
            model.keymap.check(model, {**file, "bert.pooler.dense.bias": torch.empty(1)}, where="file")


@torch.no_grad()
def test_released_files_are_read_whole(tmp_path: Path) -> None:
    model, path = tiny(TASKS).float(), tmp_path / "multi_task_model.bin"
    rest = left_out(24, 16, 20, 40, 2) | linear("linguisic_logit", 1, 24)
    weights = model.keymap.theirs(model.state_dict())
    torch.save({**weights, **{n: torch.zeros(shape) for n, shape in rest.items()}}, path)
    again = ViLBERTTasks.load(path, TASKS)
    ids, features, boxes = shown()
    given = ids, features.float(), boxes.float(), None, torch.tensor([3, 4])
    told = ours(again, *given)
    assert told.keys() >= {"vqa", "gqa", "fits", "entails", "meant", "true"}
    assert all(torch.equal(told[n], x) for n, x in ours(model, *given).items())
    with pytest.raises(CheckpointError, match=r"multi_task_model\.bin: unknown: linguisic_logit\.bias, .*vil_"):
        ViLBERT.load(path, {**SOURCE, "task_specific_tokens": True})


@torch.no_grad()
@pytest.mark.parametrize("source", [SOURCE, TASKS], ids=["pre-training", "tasks"])
def test_a_folder_is_saved_and_read(source: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(source).float()
    save(model, tmp_path, shard=10_000)
    again = mmworld.load(tmp_path)
    assert type(again) is type(model)
    assert all(torch.equal(again.state_dict()[n], x) for n, x in model.state_dict().items())
