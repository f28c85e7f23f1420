"""ViLBERT (Lu et al. 2019): a stream of words and one of a picture's regions, which look at each other where they meet.

By the names of facebookresearch/vilbert-multi-task; `vilbert_tasks` has what one checkpoint was taught of twelve tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from mmworld.attention import FULL
from mmworld.config import config, pick
from mmworld.errors import ConfigError
from mmworld.fusion import coattention
from mmworld.nn.attention import Pass
from mmworld.nn.layer import ACTIVATIONS, Layer, TransformerConfig
from mmworld.text.bert import BertConfig, Embeddings, MaskedHead, names, told
from mmworld.weights.checkpoint import load_pickled
from mmworld.weights.keymap import KeyMap, Place
from mmworld.weights.names import bert_layers
from mmworld.weights.released import filled
from mmworld.weights.sizes import Depth, Width

TASKS = 20
"""Tasks that may have a token: the released code fixes it."""


Places = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, max_length=1024)]
"""Layers of a stream."""


@config
class ViLBERTConfig(BertConfig):
    """What config.json says under these names: "v" is of regions, "t" of words, "bi" of the layers where they meet.

    Attributes:
        t_biattention_id, v_biattention_id: the layers of words and of regions before which they meet, in pairs.
        task_specific_tokens: whether a token after a text's first says what the task is.
    """

    model_type: Literal["vilbert"]  # type: ignore[assignment]
    v_feature_size: Width = 2048
    v_target_size: Width = 1601
    v_hidden_size: Width = 768
    v_num_hidden_layers: Depth = 3
    v_num_attention_heads: Width = 12
    v_intermediate_size: Width = 3072
    v_hidden_act: Literal["gelu", "relu"] = "gelu"
    bi_hidden_size: Width = 1024
    bi_num_attention_heads: Width = 16
    t_biattention_id: Places = (10, 11)
    v_biattention_id: Places = (0, 1)
    fusion_method: Literal["mul", "sum"] = "mul"
    task_specific_tokens: bool = False
    model: Literal["bert"] = "bert"
    with_coattention: Literal[True] = True
    dynamic_attention: Literal[False] = False
    in_batch_pairs: Literal[False] = False

    @property
    def regions(self) -> TransformerConfig:
        """Sizes of the stream of regions; `backbone` is that of words."""
        return TransformerConfig(
            self.v_hidden_size,
            self.v_num_hidden_layers,
            self.v_num_attention_heads,
            hidden=self.v_intermediate_size,
            norm_eps=self.layer_norm_eps,
            activation=self.v_hidden_act,
            order="post",
        )

    def meeting(self) -> coattention.CoAttention:
        """A layer where the streams meet."""
        heads, width = self.bi_num_attention_heads, self.bi_hidden_size
        if width % heads:
            raise ConfigError(f"config.json: bi_hidden_size {width} is no multiple of bi_num_attention_heads {heads}")
        sizes = (replace(c, n_heads=heads, head_dim=width // heads) for c in (self.backbone, self.regions))
        return coattention.CoAttention(*sizes)

    @property
    def meetings(self) -> list[tuple[int, int]]:
        """Before which layers of words and of regions the streams meet."""
        t, v = self.t_biattention_id, self.v_biattention_id
        for name, at, depth in (("t", t, self.num_hidden_layers), ("v", v, self.v_num_hidden_layers)):
            if list(at) != sorted(at) or at[-1] >= depth:
                raise ConfigError(f"config.json: {name}_biattention_id {at} must not fall, nor pass layer {depth - 1}")
        if len(t) != len(v):
            raise ConfigError(
                f"config.json: {len(t)} in t_biattention_id and {len(v)} in v_biattention_id are no pairs"
            )
        return list(zip(t, v, strict=True))


class Regions(nn.Module):
    """What a region looks like and where it is, summed and normed (section 2.2)."""

    def __init__(self, c: ViLBERTConfig) -> None:
        super().__init__()
        self.features = nn.Linear(c.v_feature_size, c.v_hidden_size)
        self.boxes = nn.Linear(5, c.v_hidden_size)
        self.norm = nn.LayerNorm(c.v_hidden_size, eps=c.layer_norm_eps)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Features [B, R, F] and boxes [B, R, 5] to [B, R, E]."""
        return self.norm(self.features(features) + self.boxes(boxes))


class Classifier(nn.Module):
    """Scores of classes, by one hidden layer that is normed."""

    def __init__(self, dim: int, hidden: int, classes: int, activation: str = "gelu", norm_eps: float = 1e-12) -> None:
        super().__init__()
        self.dense, self.activation = nn.Linear(dim, hidden), ACTIVATIONS[activation]
        self.norm, self.out = nn.LayerNorm(hidden, eps=norm_eps), nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] to [..., C]."""
        return self.out(self.norm(self.activation(self.dense(x))))


class ViLBERT(nn.Module):
    """Two streams, and what they are pre-trained on (figures 1 and 3).

    Args:
        source: what config.json says, of `BertForMultiModalPreTraining`.

    Attributes:
        kinds: regions [..., E] to what is masked there [..., v_target_size]: scores of a detector's classes, or its
            features.
        aligned: pairs [B, P] to [B, 2]: that the text is about the picture, and that it is not.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ViLBERTConfig, source, where="config.json")
        self.config, self.meetings = c, c.meetings
        self.embeddings, self.region_embeddings = Embeddings(c), Regions(c)
        self.tasks = nn.Embedding(TASKS, c.hidden_size) if c.task_specific_tokens else None
        self.words = nn.ModuleList(Layer(c.backbone) for _ in range(c.num_hidden_layers))
        self.regions = nn.ModuleList(Layer(c.regions) for _ in range(c.v_num_hidden_layers))
        self.meet = nn.ModuleList(c.meeting() for _ in self.meetings)
        self.pool_words = nn.Linear(c.hidden_size, c.bi_hidden_size)
        self.pool_regions = nn.Linear(c.v_hidden_size, c.bi_hidden_size)
        self.head = MaskedHead(c.vocab_size, c.hidden_size, c.hidden_act, c.layer_norm_eps)
        e = c.v_hidden_size
        self.kinds = Classifier(e, e, c.v_target_size, c.hidden_act, c.layer_norm_eps)  # of words: so it was released
        self.aligned = nn.Linear(c.bi_hidden_size, 2)

    @classmethod
    def load(cls, path: Path | str, source: Mapping[str, Any]) -> Self:
        """The weights that facebookresearch/vilbert-multi-task released, a pickle that is read as tensors alone.

        Raises:
            CheckpointError: the file is missing, holds more than tensors and numbers, or other ones.
            ConfigError: as for the class.
        """
        return filled(cls(source), load_pickled(path), str(path))

    def forward(
        self, ids: Tensor, features: Tensor, boxes: Tensor, types: Tensor | None = None, tasks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Texts and what is seen in pictures, to words [B, T, D] and regions [B, R, E] (figure 1).

        Args:
            ids: of texts [B, T], beginning with the one that stands for the whole.
            features: of regions [B, R, F], the first of which stands for the whole picture.
            boxes: where they are [B, R, 5], as `located` gives them.
            types: of the ids [B, T]; without them they are all of the first.
            tasks: number of each pair's task [B], where the checkpoint has tokens for them; T then grows by one.

        Raises:
            ValueError: tasks are given to a checkpoint that has no tokens for them, or missing for one that has.
        """
        words, regions = self._told(ids, types, tasks), self.region_embeddings(features, boxes)
        t = v = 0
        for meet, (next_t, next_v) in zip(self.meet, self.meetings, strict=True):
            words, regions = _through(self.words[t:next_t], words), _through(self.regions[v:next_v], regions)
            words, regions = meet(words, regions)
            t, v = next_t, next_v
        return _through(self.words[t:], words), _through(self.regions[v:], regions)

    def _told(self, ids: Tensor, types: Tensor | None, tasks: Tensor | None) -> Tensor:
        """A text's words, and behind the first its task, which has no place and no type."""
        if (self.tasks is None) != (tasks is None):
            raise ValueError(f"task_specific_tokens is {self.config.task_specific_tokens}, and tasks are {tasks}")
        words = self.embeddings(ids, FULL, types)
        if self.tasks is None:
            return words
        return torch.cat((words[:, :1], self.embeddings.norm(self.tasks(tasks))[:, None], words[:, 1:]), dim=1)

    def pool(self, words: Tensor, regions: Tensor) -> Tensor:
        """What `forward` gives, to what stands for each pair of text and picture [B, P]."""
        text, picture = self.pool_words(words[:, 0]).relu(), self.pool_regions(regions[:, 0]).relu()
        return text * picture if self.config.fusion_method == "mul" else text + picture

    def logits(self, words: Tensor) -> Tensor:
        """Words [..., D] to the scores of those that are masked there [..., V]."""
        return self.head(words, self.embeddings.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `BertForMultiModalPreTraining`'s names."""
        c, cls = self.config, "cls.imagePredictions"
        own: dict[str, Place] = {
            **told(""),
            "tasks.weight": "bert.embeddings.task_embeddings.weight",
            "region_embeddings.features.*": "bert.v_embeddings.image_embeddings.*",
            "region_embeddings.boxes.*": "bert.v_embeddings.image_location_embeddings.*",
            "region_embeddings.norm.*": "bert.v_embeddings.LayerNorm.*",
            "pool_words.*": "bert.t_pooler.dense.*",
            "pool_regions.*": "bert.v_pooler.dense.*",
            "kinds.dense.*": f"{cls}.transform.dense.*",
            "kinds.norm.*": f"{cls}.transform.LayerNorm.*",
            "kinds.out.*": f"{cls}.decoder.*",
            "aligned.*": "cls.bi_seq_relationship.*",
        }
        words = KeyMap(names("bert.", c.hidden_size)).moved(lambda n: n.replace("backbone.layers", "words"), str)
        regions = KeyMap(bert_layers("bert.", c.v_hidden_size)).moved(
            lambda n: n.replace("backbone.layers", "regions"), lambda n: n.replace("encoder.layer", "encoder.v_layer")
        )
        meet = coattention.names(c.bi_hidden_size).within("meet.{i}.", "bert.encoder.c_layer.{i}.")
        return words | regions | meet | KeyMap(own, unused=("cls.predictions.decoder.weight",))


def located(features: Tensor, corners: Tensor, width: float, height: float) -> tuple[Tensor, Tensor]:
    """What a detector found in a picture, to the features [R + 1, F] and boxes [R + 1, 5] of one pair (section 2.2).

    The first is the whole picture, the mean of what was found. A box is its corners and its area, as shares of the
    picture's width, height and area.

    Args:
        features: of what was found [R, F].
        corners: where [R, 4]: left, top, right, bottom, in pixels.
        width, height: of the picture, in pixels.
    """
    share = corners / corners.new_tensor((width, height, width, height))
    area = (share[:, 2:] - share[:, :2]).prod(-1, keepdim=True)
    whole = share.new_tensor(((0, 0, 1, 1, 1),))
    return torch.cat((features.mean(0, keepdim=True), features)), torch.cat((whole, torch.cat((share, area), dim=1)))


def _through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x, Pass(), 0)
    return x
