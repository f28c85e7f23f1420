"""Qwen2-VL (Wang et al. 2024) and Qwen2.5-VL (Bai et al. 2025): pictures and films of any size in a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from mmworld.config import config, pick
from mmworld.fusion.places import Grid, places
from mmworld.fusion.projection import Merger, put
from mmworld.models.message import Glimpse, Message
from mmworld.models.zoo.conversation import like, processor, read, row, shown, spread
from mmworld.nn.layer import make_norm
from mmworld.nn.state import KVState
from mmworld.text.decoder import Told
from mmworld.text.llama import Llama
from mmworld.types import Chunk, Takes
from mmworld.vision.budget import FilmBudget
from mmworld.vision.qwen import Qwen2VisionConfig, Qwen25VisionConfig, QwenVision
from mmworld.weights.keymap import KeyMap

LONGEST = 18_000
"""Tokens of a film in a conversation, at most: one of more has smaller frames, as in training."""


@config
class QwenVLConfig:
    """What config.json says under these names; what its language model is may stand beside them."""

    model_type: Literal["qwen2_vl", "qwen2_5_vl"]
    vision_config: dict[str, Any]
    text_config: dict[str, Any] | None = None
    image_token_id: int = 151_655
    video_token_id: int = 151_656
    tie_word_embeddings: bool = False


@dataclass(frozen=True, eq=False)
class Film:
    """A picture, a film, or a stretch of a film, prepared.

    Attributes:
        frames: normalised [T, C, H, W].
        seconds: from one group of frames to the next; None is a picture.
        first: groups of frames of the film before this stretch.
        last: whether the film ends here; if not, what is read next begins with its next stretch.
    """

    frames: Tensor
    seconds: float | None = None
    first: int = 0
    last: bool = True


class QwenVL(Told):
    """A picture is as many tokens as its size asks for; they stand on three axes of time, height and width.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image", "video"), frames=32)
    processors: Mapping[str, Any]

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(QwenVLConfig, source, where="config.json")
        self.config = c
        kind: Any = Qwen2VisionConfig if c.model_type == "qwen2_vl" else Qwen25VisionConfig
        self.vision = QwenVision(pick(kind, c.vision_config, where="config.json: vision_config"))
        self.language = Llama(_language(source, c))
        self.projector = Merger(
            make_norm(self.vision.config.backbone),
            self.vision.config.backbone.dim,
            self.language.config.hidden_size,
            self.vision.config.spatial_merge_size**2,
        )

    def see(self, films: Sequence[Tensor]) -> Tensor:
        """Normalised frames [T, C, H, W] of pictures and films to tokens of the language model [N, D], packed."""
        return self.projector(self.vision(films))

    def grid(self, film: Film) -> Grid:
        """The tokens that a film is in the language model."""
        time, height, width = self.vision.boxes.grid(film.frames)
        merge = self.vision.boxes.merge
        step = 1.0 if film.seconds is None else self.vision.config.step(film.seconds)
        return Grid(time, height // merge, width // merge, step, film.first, film.last)

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        state = self.init_state()
        return state, self.language.logits(self._hidden(*self.conversation(messages), state, None)[:, -1])

    def conversation(self, messages: Sequence[Message]) -> tuple[Tensor, list[Film]]:
        """A conversation as ids [1, T], and what it shows; raises as `begin` does."""
        films, ids = [self._film(c) for c in shown(messages, "image", "video")], self.written(messages)
        for place, still in ((self.config.image_token_id, True), (self.config.video_token_id, False)):
            ids = spread(ids, place, [self.grid(f).n for f in films if (f.seconds is None) is still])
        return row(self, ids), films

    def _film(self, chunk: Chunk) -> Film:
        if chunk.modality == "image":
            return Film(like(self, processor(self, "image")(chunk.data)))
        seconds = self.vision.boxes.time * (chunk.end - chunk.start) / len(chunk.data)
        return Film(like(self, self._frames(chunk.data, LONGEST)), seconds)

    def _frames(self, frames: Tensor, tokens: int) -> Tensor:
        """Frames uint8 [T, 3, H, W] of a film that may come to so many tokens, prepared."""
        # An old folder says of pictures what holds for films, too.
        said = self.processors.get("video") or FilmBudget(**asdict(processor(self, "image")))
        return replace(said, cap_pixels_per_frame=True, max_video_tokens=tokens)(frames)

    @property
    def together(self) -> int:
        """Frames that are one glimpse, see `mmworld.models.message.Follower`."""
        return self.vision.boxes.time

    @property
    def place(self) -> int:
        return self.config.video_token_id

    def written(self, messages: Sequence[Message]) -> list[int]:
        return read(self, messages)

    def glimpse(self, frames: Tensor, held: int) -> Glimpse:
        """A film of its own, so that words can follow: of the size that frames have in a film of `held`."""
        film = Film(like(self, self._frames(frames, max(1, LONGEST * len(frames) // held))), 1.0)
        grid = self.grid(film)
        return Glimpse(self.see([film.frames]), grid.places(0), grid.end(0))

    def forward(
        self,
        ids: Tensor,
        films: Sequence[Film] = (),
        state: KVState | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """Ids [1, T], and what stands in the places of pictures and films, to the scores of what follows [1, T, V].

        Args:
            films: in the order of their places, which are those of `image_token_id` or `video_token_id`.
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            ValueError: the films do not fill those places, or overfill them; or there are rows beside the first.
        """
        return self.language.logits(self._hidden(ids, films, state, lengths))

    def _hidden(
        self, ids: Tensor, films: Sequence[Film], state: KVState | None, lengths: tuple[int, ...] | None
    ) -> Tensor:
        x = self.language.embed(ids)
        if not films:
            return self.language.hidden(x, state, lengths)
        if len(ids) != 1:
            raise ValueError(f"{len(ids)} rows of ids with films: pack them in one, with their lengths")
        seen = (ids == self.config.image_token_id) | (ids == self.config.video_token_id)
        x = put(self.see([f.frames for f in films]), x, seen)
        at, after = self._places(seen[0].cpu(), films, lengths, 0 if state is None else state.next)
        x = self.language.hidden(x, state, lengths, at.to(x.device))
        if state is not None:
            state.delta += after - state.next
        return x

    def _places(
        self, seen: Tensor, films: Sequence[Film], lengths: tuple[int, ...] | None, start: int
    ) -> tuple[Tensor, int]:
        """The positions of packed texts [3, T], and the one after the last."""
        left, parts, after = iter([self.grid(f) for f in films]), [], start
        for text in seen.split(list(lengths or (len(seen),))):
            mine: list[Grid] = []
            while sum(g.n for g in mine) < int(text.sum()):
                mine.append(next(left))
            at, after = places(text, mine, start)
            parts.append(at)
        return torch.cat(parts, dim=1), after

    @property
    def keymap(self) -> KeyMap:
        """Of `Qwen2VLForConditionalGeneration`'s names and its kin's, as released; later ones are read too."""
        own = KeyMap(
            {
                "projector.norm.*": "visual.merger.ln_q.*",
                "projector.project.up.*": "visual.merger.mlp.0.*",
                "projector.project.down.*": "visual.merger.mlp.2.*",
            },
            aliases={"model.visual.": "visual.", "model.language_model.": "model."},
        )
        return own | self.vision.keymap.within("vision.", "visual.") | self.language.keymap.within("language.", "")


def _language(source: Mapping[str, Any], c: QwenVLConfig) -> dict[str, Any]:
    """What Qwen2 is told: in its own part of the file, or in an older file beside the other parts."""
    told = dict(c.text_config or source)
    name = "rope_parameters" if told.get("rope_parameters") else "rope_scaling"
    turned = {"mrope_section": [16, 24, 24], **(told.get(name) or {})}
    tied = c.tie_word_embeddings or told.get("tie_word_embeddings", False)
    return {**told, name: turned, "model_type": "qwen2", "tie_word_embeddings": tied}
