"""VideoCLIP (Xu et al. 2021): a BERT over what a frozen S3D sees each second, and a BERT over texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.errors import ConfigError, UsageError
from mmworld.fusion.late import Late
from mmworld.modalities.video.s3d import S3D, Seconds
from mmworld.nn.layer import ACTIVATIONS
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import BertConfig, Embeddings, names
from mmworld.text.packing import pack
from mmworld.types import Takes
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Depth, Width

AT_ONCE = 4
"""Seconds of film that S3D sees beside each other: its maps of one take some 250 MB."""
Id = Annotated[int, Field(ge=0)]


@config
class VideoClipConfig:
    """What config.json says under these names, which are those of the released configuration.

    Attributes:
        text_config: a BERT's config.json, also of the one over films but for its depth.
        s3d_config: of what sees the film; None if the checkpoint has none, and is given features.
        max_video_len: seconds of a film, at most.
        vfeat_dim: numbers of a second.
        l2_normalize: whether these are brought to length 1, as they were in training.
    """

    model_type: Literal["videoclip"]
    text_config: dict[str, Any]
    s3d_config: dict[str, Any] | None = None
    num_hidden_video_layers: Depth = 6
    max_video_len: Width = 32
    vfeat_dim: Width = 512
    l2_normalize: bool = True
    cls_token_id: Id = 101
    sep_token_id: Id = 102


class TextTower(nn.Module):
    """BERT without a pooler.

    Args:
        c: sizes.
    """

    def __init__(self, c: BertConfig) -> None:
        super().__init__()
        self.embeddings, self.backbone = Embeddings(c), Transformer(c.backbone)

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text to the mean of its tokens, without the one that begins it, [B, D]."""
        row, lengths = pack(texts, self.embeddings.words.weight.device)
        if min(lengths) < 2:
            raise ValueError("a text without ids behind the one that begins it")
        mask = Mask("full", lengths=lengths)
        x = self.backbone(self.embeddings(row, mask), mask)[0]
        return torch.stack([text[1:].mean(0) for text in x.split(lengths)])


class VideoTower(nn.Module):
    """BERT over [CLS], a token for each second, and [SEP] (section 3).

    Args:
        c: sizes.
        source: the whole's.
    """

    def __init__(self, c: BertConfig, source: VideoClipConfig) -> None:
        super().__init__()
        self.ids, self.longest = (source.cls_token_id, source.sep_token_id), source.max_video_len
        self.up, self.activation = nn.Linear(source.vfeat_dim, c.hidden_size), ACTIVATIONS[c.hidden_act]
        self.norm, self.down = nn.LayerNorm(c.hidden_size), nn.Linear(c.hidden_size, c.hidden_size)
        self.embeddings, self.backbone = Embeddings(c), Transformer(c.backbone)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, N, E] to the mean of the tokens but [CLS], [B, D]."""
        b, n, _ = features.shape
        if not 0 < n <= self.longest:
            raise ValueError(f"a film of {n} seconds, the model has learned 1 to {self.longest}")
        table, seconds = self.embeddings, self.down(self.norm(self.activation(self.up(features))))
        first, last = (table.words.weight[i].expand(b, 1, -1) for i in self.ids)
        # [SEP] stands behind the longest film, however long this one is.
        places = torch.tensor([*range(n + 1), self.longest + 1], device=features.device)
        x = torch.cat((first, seconds, last), dim=1) + table.places(places) + table.types.weight[0]
        return self.backbone(table.norm(x))[:, 1:].mean(1)


class VideoCLIP(Late):
    """A film and a text fit as well as the product of what stands for them says: their lengths count, too.

    In training the scores of a batch of pairs are told apart both ways: the loss is the sum of the cross entropies of
    the scores and of their transpose, with their diagonals as the classes (section 3).

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    unit = False

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(VideoClipConfig, source, where="config.json")
        told = pick(BertConfig, c.text_config, where="config.json: text_config")
        _check(c, told)
        self.config, self.dim = c, told.hidden_size
        self.text = TextTower(told)
        self.video = VideoTower(replace(told, num_hidden_layers=c.num_hidden_video_layers), c)
        self.s3d = None if c.s3d_config is None else S3D(c.s3d_config).requires_grad_(False)
        if self.s3d is not None and self.s3d.config.num_classes != c.vfeat_dim:
            raise ConfigError(f"config.json: vfeat_dim {c.vfeat_dim}, its S3D gives {self.s3d.config.num_classes}")

    @property
    def takes(self) -> Takes:  # type: ignore[override]
        seen = self._sees().config
        return Takes(("video",), seconds=self.config.max_video_len, fps=seen.fps, size=seen.image_size)

    @property
    def prepares(self) -> dict[str, Any]:
        """How films are prepared, which no file says."""
        return {} if self.s3d is None else {"video": Seconds(self.s3d.config.fps)}

    def embed(self, x: Tensor) -> Tensor:
        """Seconds of films [B, N, 3, T, H, W] from 0 to 1, or the features of each [B, N, E], to what stands for each
        film [B, D], of any length.

        Raises:
            UsageError: these are films, and the checkpoint has no S3D.
            ValueError: there is none, or there are more than `max_video_len`.
        """
        return self.video(x if x.ndim == 3 else self.features(x))

    def features(self, films: Tensor) -> Tensor:
        """Seconds of films [B, N, 3, T, H, W] from 0 to 1 to their features [B, N, E]; UsageError without an S3D."""
        sees = self._sees()
        x = torch.cat([sees(part) for part in films.flatten(0, 1).split(AT_ONCE)]).unflatten(0, films.shape[:2])
        return F.normalize(x, dim=-1) if self.config.l2_normalize else x

    def embed_texts(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The ids of each text, [CLS] and [SEP] at its ends, to what stands for it [B, D], of any length.

        Raises:
            ValueError: a text is without ids, or longer than the places that were learned.
        """
        return self.text(texts)

    def compare(self, seen: Tensor, told: Tensor) -> Tensor:
        return seen @ told.T

    def _sees(self) -> S3D:
        if self.s3d is None:
            raise UsageError("this VideoCLIP has no S3D: config.json lacks s3d_config", hint="give it features")
        return self.s3d

    @property
    def keymap(self) -> KeyMap:
        """Of `MMPTModel`'s names, or those of its model alone as fairseq trains it."""
        bert = KeyMap(names("", self.dim), unused=("pooler.dense.*", "embeddings.position_ids"))
        mlp = {"video.up.*": "linear1.*", "video.norm.*": "LayerNorm.*", "video.down.*": "linear2.*"}
        own = KeyMap({n: f"model.video_encoder.videomlp.{theirs}" for n, theirs in mlp.items()})
        own |= bert.within("text.", "model.text_encoder.") | bert.within("video.", "model.video_encoder.bert.")
        own |= KeyMap({}, aliases={"mmmodel.": "model."})
        return own if self.s3d is None else own | self.s3d.keymap.within("s3d.", "video_encoder.")


def _check(c: VideoClipConfig, told: BertConfig) -> None:
    if c.max_video_len + 2 > told.max_position_embeddings:
        places = told.max_position_embeddings
        raise ConfigError(f"config.json: max_video_len {c.max_video_len} and its ends, places are {places}")
    if (last := max(c.cls_token_id, c.sep_token_id)) >= told.vocab_size:
        raise ConfigError(f"config.json: cls_token_id or sep_token_id {last}, vocab_size is {told.vocab_size}")
