"""Any encoders before any language model: parts of different checkpoints, and the bridges that are trained between
them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import Mask
from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.fusion import gated
from mmworld.fusion.bridge import Asked, Early, Projected, Resampled, heads
from mmworld.models import zoo
from mmworld.models.message import Message
from mmworld.models.zoo import encoders, processors
from mmworld.models.zoo.conversation import check, ids_of, like, prepared, row, shown, vocabulary, words, written
from mmworld.models.zoo.pointllm import prepare as points
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer, TransformerConfig
from mmworld.nn.state import KVState
from mmworld.text.chat import Chat
from mmworld.text.decoder import Decoder
from mmworld.types import Chunk, Takes
from mmworld.weights.keymap import KeyMap
from mmworld.weights.quantise import is_quantised, take
from mmworld.weights.sizes import Depth, Width

SENSES = {"vision": "image", "video": "video", "audio": "audio", "points": "points"}
"""What the parts are called, and the modality of what each encodes."""
STACK = {"audio": 8}
"""Neighbouring tokens of a projection that become one: Whisper's come fifty a second."""
MARK = "\ufffc"
"""Stands for a thing in the text, until its tokens do (Unicode's object replacement character)."""
PLAIN = Chat("{% for m in messages %}{{ m.content }} {% endfor %}")
"""Of a language model that has learned no conversation."""
FILES = ("tokenizer*", "vocab*", "merges.txt", "chat_template*", "special_tokens_map.json", "generation_config.json")
Fusion = Literal["projection", "qformer", "cross", "early"]
LOOK_EVERY = 2
FRAMES = 8
"""Of a film, shown as pictures where nothing encodes films."""


@config
class ComposedConfig:
    """
    Attributes:
        senses: the config of each encoder, by the modality of what it encodes.
        language: the config of the language model.
        fusion: how what is encoded comes to it.
        n: tokens that a thing comes to, with a Q-Former or cross-attention.
        depth: layers of a Q-Former or resampler.
    """

    model_type: Literal["composed"]
    senses: dict[Literal["image", "video", "audio", "points"], dict[str, Any]]
    language: dict[str, Any]
    fusion: Fusion = "projection"
    n: Width = 32
    depth: Depth = 2


class Composed(nn.Module):
    """A language model that is told what encoders perceive.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    tokenizer: Any
    processors: Mapping[str, Any]
    generation: Mapping[str, Any]
    folder: Path

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ComposedConfig, source, where="config.json")
        self.config = c
        self.encoders = nn.ModuleDict({name: encoders.build(said) for name, said in c.senses.items()})
        self.language: Any = zoo.FAMILIES.get(str(c.language.get("model_type")))(c.language)
        told = self.language.embedding.embedding_dim
        bridges: dict[str, nn.Module] = {
            str(name): _bridge(c, name, encoders.width(said), told) for name, said in c.senses.items()
        }
        self.bridges = nn.ModuleDict(bridges)
        self.nothing: nn.Parameter | None = None
        if c.fusion == "cross":
            self.nothing = nn.Parameter(torch.zeros(c.n, told))
            gated.insert(self.language.backbone, lambda i: None if i % LOOK_EVERY else _look(told))
        films: Any = self.encoders["video"] if "video" in c.senses else None
        self.takes = Takes(tuple(c.senses), frames=FRAMES if films is None else films.takes.frames)
        self.sources: dict[str, Path] = {}

    def see(self, chunk: Chunk) -> Tensor:
        """A thing to tokens of the language model [N, D]."""
        if chunk.modality == "points":
            x = like(self, points(chunk.data, self.config.senses["points"].get("point_dims", 3))[None])
        else:
            x = prepared(self, _even(chunk, self.takes.frames) if chunk.modality == "video" else chunk)
        seen: Tensor = self.bridges[chunk.modality](self.encoders[chunk.modality](x))
        return seen.flatten(0, 1)

    def embed(self, messages: Sequence[Message]) -> tuple[Tensor, Tensor | None]:
        """A conversation up to what the model says, as embedded tokens [T, D], and what its layers look at [M, D]."""
        check(messages, self.takes)
        tokenizer = vocabulary(self)
        first, *rest = written(messages, tokenizer.chat or PLAIN, MARK).split(MARK)
        seen = [self.see(chunk) for chunk in shown(messages, *self.takes.senses)]
        ids = [ids_of(tokenizer, first), *(tokenizer.encode(text, whole=False) for text in rest)]
        told = [self.language.embed(row(self, part))[0] for part in ids]
        if self.nothing is not None:
            return torch.cat(told), torch.cat(seen) if seen else self.nothing
        return torch.cat([told[0], *chain.from_iterable(zip(seen, told[1:], strict=True))]), None

    def begin(self, messages: Sequence[Message]) -> tuple[KVState, Tensor]:
        """Read a conversation, see `mmworld.models.message.Assistant.begin`."""
        x, context = self.embed(messages)
        state = self.language.init_state()
        looked = {} if context is None else {"context": context[None]}
        return state, self.language.logits(self.language.hidden(x[None], state, **looked)[:, -1])

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        logits: Tensor = self.language.read(ids, state)
        return logits

    def forward(self, conversations: Sequence[Sequence[Message]]) -> Tensor:
        """The mean negative log-likelihood of the last message, the assistant's, of each conversation."""
        tokenizer = vocabulary(self)
        asked = [self.embed(c[:-1]) for c in conversations]
        ends = sorted(tokenizer.ends)[:1]
        answers = [[*tokenizer.encode(words(c[-1]), whole=False), *ends] for c in conversations]
        told = [self.language.embed(row(self, ids))[0] for ids in answers]
        rows = [torch.cat((x, y[:-1])) for (x, _), y in zip(asked, told, strict=True)]
        lengths = tuple(map(len, rows))
        looked = _looked([context for _, context in asked], lengths)
        hidden = self.language.hidden(torch.cat(rows)[None], lengths=lengths, **looked)[0].split(lengths)
        logits = self.language.logits(torch.cat([h[-len(a) :] for h, a in zip(hidden, answers, strict=True)]))
        return F.cross_entropy(logits.float(), row(self, list(chain.from_iterable(answers)))[0])

    def freeze(self, parts: Collection[str] = ("encoders", "language")) -> None:
        """Train all but these parts; what the language model looks with is trained as a bridge is.

        Raises:
            UsageError: a part that would be trained has weights of few bits.
        """
        for name, parameter in self.named_parameters():
            if is_quantised(parameter) and not name.startswith(tuple(f"{part}." for part in parts)):
                raise UsageError(f"{name} is quantised and cannot be trained", hint="freeze its part, or load it whole")
        self.requires_grad_(True)
        for name in parts:
            self.get_submodule(name).requires_grad_(False)
        for name, parameter in self.language.named_parameters():
            if ".look." in name:
                parameter.requires_grad_(True)

    def save(self, folder: Path | str) -> None:
        """Write a folder that `mmworld.load` reads: config, weights, vocabulary, preprocessing.

        Raises:
            ResourceError: the disk is full or the folder may not be written.
        """
        zoo.save(self, folder)
        sources: dict[str, Path] = self.sources or dict.fromkeys((*self.config.senses, "language"), self.folder)
        language = sources.get("language")
        for path in chain.from_iterable(language.glob(f) for f in FILES) if language else ():
            shutil.copy(path, folder)
        processors.gather({n: p for n, p in sources.items() if n != "language"}, Path(folder))

    @property
    def keymap(self) -> KeyMap:
        """The names are ours."""
        return KeyMap({name: name for name in self.state_dict()})


def compose(
    *,
    language: Any,
    vision: Any = None,
    video: Any = None,
    audio: Any = None,
    points: Any = None,
    fusion: Fusion = "projection",
    n: int = 32,
    depth: int = 2,
    device: str | torch.device = "cpu",
) -> Composed:
    """One model of parts of different checkpoints. Its bridges are new: all else is frozen until `freeze` says
    otherwise, and `mmworld.train.bridge.fit` trains them.

    Args:
        language: a LLaMA or one of its kin; with any fusion but "cross" also a GPT-2 or OPT.
        vision, video, audio, points: encoders: names, folders, or models; of CLIP and Whisper what encodes in them.
        fusion: "projection" (LLaVA), "qformer" (BLIP-2), "cross" (Flamingo) or "early" (one matrix: train all with it).
        n: tokens that a thing comes to, with "qformer" or "cross".
        depth: layers of a Q-Former or resampler.

    Raises:
        CheckpointError: a part cannot be read.
        UsageError: a part is not of the kind that is needed or has weights of int4 (those of int8 pass gradients on),
            or there is nothing to perceive with.
    """
    given = {"vision": vision, "video": video, "audio": audio, "points": points}
    parts = {SENSES[name]: _loaded(part) for name, part in given.items() if part is not None}
    speaker = _loaded(language)
    if not isinstance(speaker, Decoder):
        raise UsageError(f"a {type(speaker).__name__} is no language model that writes")
    if not parts:
        raise UsageError("nothing to perceive with", hint="give vision, video, audio or points")
    found = {name: _encoder(part, name) for name, part in parts.items()}
    sizes = {"fusion": fusion, "n": n, "depth": depth}
    source: Any = speaker
    model = Composed(
        {"model_type": "composed", "senses": {k: s for k, (s, _) in found.items()}, "language": source.source, **sizes}
    )
    for name, (_, encoder) in found.items():
        take(model.encoders[name], encoder.state_dict())
    _fill(model.language, speaker)
    model.tokenizer, model.generation = source.tokenizer, source.generation
    prepares = {name: processors.of(getattr(part, "processors", {}), name) for name, part in parts.items()}
    model.processors = {name: prepare for name, prepare in prepares.items() if prepare is not None}
    folders = {name: getattr(part, "folder", None) for name, part in {**parts, "language": speaker}.items()}
    model.sources = {name: folder for name, folder in folders.items() if folder is not None}
    model.freeze()
    return model.to(device).eval()


def _loaded(part: Any) -> Any:
    return zoo.load(part) if isinstance(part, str | os.PathLike) else part


def _encoder(part: Any, modality: str) -> tuple[dict[str, Any], nn.Module]:
    source, encoder = encoders.part(part)
    takes: Takes | None = getattr(encoder, "takes", None)
    if takes is not None and modality not in takes.senses:
        raise UsageError(f"a {type(part).__name__} encodes {', '.join(takes.senses)}, not {modality}")
    return source, encoder


def _even(film: Chunk, n: int) -> Chunk:
    """A film of n frames, evenly out of those there are: those of a short one several times."""
    shown = len(film.data)
    return film if shown == n else replace(film, data=film.data[(2 * torch.arange(n) + 1) * shown // (2 * n)])


def _bridge(c: ComposedConfig, modality: str, seen: int, told: int) -> nn.Module:
    match c.fusion:
        case "projection":
            return Projected(seen, told, STACK.get(modality, 1))
        case "early":
            return Early(seen, told)
        case "qformer":
            return Asked(seen, told, c.n, c.depth)
        case "cross":
            return Resampled(seen, told, c.n, c.depth)


def _look(told: int) -> Layer:
    sizes = TransformerConfig(told, 1, heads(told))
    return Layer(sizes, attention=CrossAttention(sizes, context_dim=told), end=gated.Gate)


def _looked(contexts: Sequence[Tensor | None], lengths: tuple[int, ...]) -> dict[str, Any]:
    held = [c for c in contexts if c is not None]
    if not held:
        return {}
    mask = Mask(lengths=lengths, key_lengths=tuple(map(len, held)))
    return {"context": torch.cat(held)[None], "context_mask": mask}


def _fill(language: nn.Module, speaker: nn.Module) -> None:
    """The speaker's weights, whose layers may stand behind looks."""
    own, said = language.state_dict(), dict[str, Tensor]()
    for name, x in speaker.state_dict().items():
        inside = name.replace("backbone.layers.", "").split(".", 1)
        looked = f"backbone.layers.{inside[0]}.layer.{inside[-1]}"
        said[name if name in own else looked] = x
    take(language, own | said)
