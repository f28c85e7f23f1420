"""BLIP (Li et al. 2022): a text decoder that looks at a picture in every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmworld.attention import CAUSAL, Mask
from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import pictures, row, vocabulary, words
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.position import Learned, positions
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer
from mmworld.text.bert import MaskedHead, body, told
from mmworld.types import Takes
from mmworld.vision.blip import BlipVision
from mmworld.weights.keymap import Fuse, KeyMap, Place
from mmworld.weights.sizes import Depth, Width, standard


@config
class BlipConfig:
    """What config.json says under these names, beside those of its parts."""

    model_type: Literal["blip"]
    text_config: dict[str, Any]
    vision_config: dict[str, Any]


@config
class BlipTextConfig:
    """What config.json says under these names."""

    model_type: Literal["blip_text_model"]
    vocab_size: Width = 30524
    hidden_size: Width = 768
    encoder_hidden_size: Width = 768
    num_hidden_layers: Depth = 12
    num_attention_heads: Width = 8
    intermediate_size: Width = 3072
    max_position_embeddings: Width = 512
    hidden_act: Literal["gelu", "relu"] = "gelu"
    layer_norm_eps: float = 1e-12
    bos_token_id: int = 30522
    sep_token_id: int = 102
    tie_word_embeddings: Literal[True] = True

    @property
    def backbone(self) -> TransformerConfig:
        return standard(self, order="post")


class BLIP(nn.Module):
    """Captions of pictures: the image-grounded text decoder (figure 2, right).

    Args:
        source: what config.json says, of `BlipForConditionalGeneration`.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, whole = dict(source), pick(BlipConfig, source, where="config.json")
        self.vision = BlipVision(whole.vision_config)
        c = self.config = pick(BlipTextConfig, whole.text_config, where="config.json: text_config")
        sizes = c.backbone
        self.words = nn.Embedding(c.vocab_size, c.hidden_size)
        self.places = Learned(c.max_position_embeddings, c.hidden_size)
        self.norm = nn.LayerNorm(c.hidden_size, eps=c.layer_norm_eps)
        self.backbone = Transformer(
            sizes, layer=lambda _: Layer(sizes, cross=CrossAttention(sizes, context_dim=c.encoder_hidden_size))
        )
        self.head = MaskedHead(c.vocab_size, c.hidden_size, c.hidden_act, c.layer_norm_eps)

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures [B, 3, H, W] to tokens [B, N, E]."""
        return self.vision(pixels)

    @property
    def ends(self) -> frozenset[int]:
        """Ids after which a caption is over."""
        return frozenset([self.config.sep_token_id])

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Look at the last picture; an assistant's words are how the caption begins.

        Raises:
            UsageError: there is no picture, or there is a question: this model tells what it sees, and cannot be asked.
        """
        pixels, tokenizer = pictures(self, messages), vocabulary(self)
        if pixels is None or any(words(m) for m in messages if m.role != "assistant"):
            raise UsageError("this model captions pictures: show it one, and ask nothing")
        begun = " ".join(words(m) for m in messages if m.role == "assistant")
        ids = [self.config.bos_token_id, *tokenizer.encode(begun, whole=False)]
        state = KVState()
        return state, self(row(self, ids), self.see(pixels[-1:]), state)[:, -1]

    def forward(self, ids: Tensor, context: Tensor | None = None, state: KVState | None = None) -> Tensor:
        """Ids of the caption so far [B, T] to the scores of those that follow [B, T, V].

        Args:
            context: what `see` made of the pictures [B, N, E]; a state holds it, so it is given once.
            state: of the caption that the ids go on with; None is a fresh one.
        """
        return self._scores(self._hidden(ids, context, state))

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows, which hold a context; logits [B, V] of the id that comes next."""
        return self._scores(self._hidden(ids, None, state)[:, -1])

    def _hidden(self, ids: Tensor, context: Tensor | None, state: KVState | None) -> Tensor:
        at = positions(Mask("causal"), ids.shape[1], ids.device) + (len(state) if state is not None else 0)
        return self.backbone(self.norm(self.words(ids) + self.places(at)), CAUSAL, state, context)

    def _scores(self, x: Tensor) -> Tensor:
        return self.head(x, self.words.weight)

    @property
    def keymap(self) -> KeyMap:
        """Of `BlipForConditionalGeneration`'s names."""
        root, dim = "text_decoder.bert.", self.config.hidden_size
        cross, ours = f"{root}encoder.layer.{{i}}.crossattention", "backbone.layers.{i}"
        pairs = tuple(f"{cross}.self.{name}.*" for name in ("key", "value"))
        table: dict[str, Place] = {
            "words.weight": f"{root}embeddings.word_embeddings.weight",
            "places.table.weight": f"{root}embeddings.position_embeddings.weight",
            "norm.*": f"{root}embeddings.LayerNorm.*",
            f"{ours}.cross.q.*": f"{cross}.self.query.*",
            f"{ours}.cross.kv.*": Fuse(pairs, (dim,) * 2),
            f"{ours}.cross.out.*": f"{cross}.output.dense.*",
            f"{ours}.norm_cross.*": f"{cross}.output.LayerNorm.*",
            **body(root, dim),
            **told("text_decoder."),
        }
        copies = ("text_decoder.cls.predictions.decoder.*", f"{root}embeddings.position_ids")
        return KeyMap(table, unused=copies) | self.vision.keymap.within("vision.", "vision_model.")
