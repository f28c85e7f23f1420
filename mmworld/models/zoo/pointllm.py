"""PointLLM (Xu et al. 2024): Point-BERT's tokens of a coloured object in the text of a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion.projection import put
from mmworld.modalities.pointcloud.pointbert import PointBert, PointBertConfig
from mmworld.modalities.pointcloud.sampling import farthest_points, some_of
from mmworld.models.message import Message
from mmworld.models.zoo import llava
from mmworld.models.zoo.conversation import read, row, shown, spread
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.types import Takes
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Width

POINTS, READ = 8192, 1 << 15
"""Points of a cloud that the encoder was trained on, and those that they are chosen from, at most."""
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
TEMPLATE = f'{{{{ "{SYSTEM}" if messages[0].role != "system" }}}}' + llava.TEMPLATE.replace(
    '"image"', '"points"'
).replace("<image>", "<point_start><point_patch><point_end>")
"""Of Vicuna 1.1."""


@config
class BackboneConfig(PointBertConfig):
    """What the encoder's own file says under these names.

    Attributes:
        projection_hidden_dim: widths between the encoder and the language model.
    """

    projection_hidden_dim: tuple[Width, ...] = ()


BACKBONES = {
    "PointTransformer_8192point_2layer": BackboneConfig(num_group=512, projection_hidden_dim=(1024, 2048)),
    "PointTransformer_base_8192point": BackboneConfig(1152, 12, 12, 48, 512, 512),
}
"""The encoders that config.json names: of version 1.2, and of 1.1."""


@config
class PointLLMConfig:
    """What config.json says under these names, beside what LLaMA's says.

    Attributes:
        point_backbone_config: sizes of an encoder that has no name; in place of `point_backbone_config_name`.
    """

    model_type: Literal["pointllm"]
    vocab_size: Width
    point_backbone: Literal["PointBERT"] = "PointBERT"
    point_backbone_config_name: Literal["PointTransformer_8192point_2layer", "PointTransformer_base_8192point"] = (
        "PointTransformer_8192point_2layer"
    )
    point_backbone_config: dict[str, Any] | None = None
    use_color: bool = False
    mm_use_point_start_end: Literal[True] = True
    DEFAULT_POINT_PATCH_TOKEN: Literal["<point_patch>"] = "<point_patch>"
    DEFAULT_POINT_START_TOKEN: Literal["<point_start>"] = "<point_start>"
    DEFAULT_POINT_END_TOKEN: Literal["<point_end>"] = "<point_end>"

    @property
    def backbone(self) -> BackboneConfig:
        named = BACKBONES[self.point_backbone_config_name]
        given = vars(named) if self.point_backbone_config is None else self.point_backbone_config
        return pick(BackboneConfig, {**given, "point_dims": 6 if self.use_color else 3}, where="config.json")


class PointLLM(Told):
    """A cloud is so many tokens in the text of a language model.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("points",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, self.config = dict(source), pick(PointLLMConfig, source, where="config.json")
        self.language = Llama({**source, "model_type": "llama"})
        c = self.config.backbone
        self.points = PointBert(c)
        widths = (c.trans_dim, *c.projection_hidden_dim, self.language.config.hidden_size)
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.GELU())]
        self.projector = nn.Sequential(*layers[:-1])
        self.place = (
            self.config.vocab_size - 3
        )  # <point_patch> is the first of the three ids that were added to LLaMA's

    def see(self, points: Tensor) -> Tensor:
        """Clouds [B, P, C], see `prepare`, to tokens of the language model [B, 1 + N, D]."""
        return self.projector(self.points(points))

    def embed(self, ids: Tensor, points: Tensor | None = None) -> Tensor:
        """Ids [B, T], and the clouds [K, P, C] that stand in the places of <point_patch>, to [B, T, D].

        Raises:
            ValueError: the clouds do not fill those places, or overfill them.
        """
        words = self.language.embed(ids)
        return words if points is None else put(self.see(points).flatten(0, 1), words, ids == self.place)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        # One by one, as their numbers of points differ; in float32, as neighbours are told apart by distance.
        clouds = [self._prepared(chunk.data).to(self.points.token.device) for chunk in shown(messages, "points")]
        seen = [self.see(cloud[None])[0] for cloud in clouds]
        ids = row(self, spread(read(self, messages, TEMPLATE), self.place, [len(x) for x in seen]))
        words = self.language.embed(ids)
        return self.language.start(put(torch.cat(seen), words, ids == self.place) if seen else words)

    def _prepared(self, points: Tensor) -> Tensor:
        c = self.points.config
        if len(points) < c.group_size:
            raise UsageError(f"a cloud of {len(points)} points, the model reads at least {c.group_size}")
        return prepare(points, c.point_dims)

    @property
    def keymap(self) -> KeyMap:
        """Of OpenRobotLab/PointLLM's names."""
        several = "projector.{i}.*", "model.point_proj.{i}.*"
        own = KeyMap(dict([several if len(self.projector) > 1 else ("projector.0.*", "model.point_proj.*")]))
        points = self.points.keymap.within("points.", "model.point_backbone.")
        return own | self.language.keymap.within("language.", "") | points


def prepare(points: Tensor, columns: int) -> Tensor:
    """A cloud as the encoder was trained on them: around its mean, in a ball of radius one.

    Args:
        points: float32 [P, 3 + F], x y z and then r g b (0 to 1); colours that are not given are black.
        columns: of a point, 3 or 6.

    Returns:
        At most POINTS of them [N, columns], far from each other.
    """
    points = some_of(points, READ)[:, :columns]
    points = nn.functional.pad(points, (0, max(0, columns - points.shape[1])))
    if len(points) > POINTS:
        points = points[farthest_points(points[:, :3], POINTS)]
    xyz = points[:, :3] - points[:, :3].mean(0)
    return torch.cat((xyz / xyz.norm(dim=1).max().clamp_min(1e-12), points[:, 3:]), dim=1)
