"""The any-modality model: adapters, one shared fusion backbone over interleaved blocks, then text."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL, Mask
from mmworld.config import build, config
from mmworld.errors import ConfigError
from mmworld.models import layout
from mmworld.models.modality import encode_many
from mmworld.nn.position import Rotary, sinusoid
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer, TransformerConfig
from mmworld.registry import modalities, resolve
from mmworld.stream.memory import content
from mmworld.text.tokenizer import Tokenizer
from mmworld.types import Chunk, Tokens
from mmworld.weights.checkpoint import save, save_tensors, write_atomic

CONFIG, WEIGHTS, TOKENIZER = "config.yaml", "model.safetensors", "tokenizer.json"
"""The files of a model's folder."""
SIGHT = "sight.tensors"
"""One that it may lack: safetensors that were fitted to the weights and are none of them."""
TIME_DIM, SHORTEST, LONGEST = 64, 0.25, 64.0
UNTRAINED = -100
"""Target of a position that is not trained on, as torch's cross_entropy ignores it."""


@config
class WorldConfig:
    """
    Attributes:
        backbone: sizes of the shared transformer.
        adapters: for each modality's registry name, the config of its adapter as plain data.
        vocab: ids that the text embedding has room for.
    """

    backbone: TransformerConfig
    adapters: dict[str, dict[str, Any]]
    vocab: int = 4096


@dataclass(frozen=True)
class Item:
    """What is perceived and what is said of it.

    Attributes:
        chunks: whole streams, each in one chunk, of any modalities; all on one clock.
        ids: <bos>, the prompt, the text, <eos>.
        loss_from: index of the first id that is scored and trained on; those before it are given.
    """

    chunks: tuple[Chunk, ...]
    ids: tuple[int, ...]
    loss_from: int = 1

    @property
    def origin(self) -> float:
        """When the first stream starts: time embeddings count from there."""
        return min((c.start for c in self.chunks), default=0.0)


@dataclass(frozen=True)
class Packed:
    """Items as one row of tokens.

    Attributes:
        x: [N, D].
        blocks: for each item the sizes of its blocks.
        text: int64, the places of the text tokens in the row.
    """

    x: Tensor
    blocks: list[tuple[int, ...]]
    text: Tensor

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(map(sum, self.blocks))

    @property
    def mask(self) -> Mask:
        return Mask("blocks", tuple(n for sizes in self.blocks for n in sizes), lengths=self.lengths)


class World(nn.Module):
    """Any subset of modalities, to text.

    Media blocks of all modalities are interleaved by (end, name); inside a block every token sees every other, and a
    block sees the blocks before it. Text follows, causal. A modality that an item lacks costs nothing.

    Args:
        config: see WorldConfig.
        tokenizer: of the text.

    Attributes:
        sight: float32 [D + 1, D], see `sense`; None of a model to which none was fitted (`mmworld.train.sight`).

    Raises:
        ConfigError: an adapter's name or config is unknown, or the tokenizer has more ids than `vocab`.
    """

    def __init__(self, config: WorldConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        if len(tokenizer) > config.vocab:
            raise ConfigError(f"the tokenizer has {len(tokenizer)} ids, the model has room for {config.vocab}")
        self.config, self.tokenizer = config, tokenizer
        dim = config.backbone.dim
        adapters = {name: make_adapter(name, options) for name, options in sorted(config.adapters.items())}
        self.adapters = nn.ModuleDict(adapters)
        # the bias of a projection is the embedding of its modality
        self.projections = nn.ModuleDict({name: nn.Linear(a.dim, dim) for name, a in adapters.items()})
        self.time = nn.Linear(TIME_DIM, dim, bias=False)
        self.backbone = Transformer(config.backbone, position=Rotary(dim // config.backbone.n_heads))
        self.embedding = nn.Parameter(torch.randn(config.vocab, dim) * dim**-0.5)
        self.sight: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    def save(self, folder: Path | str, *, dtype: torch.dtype | None = torch.float16) -> None:
        """Write the model for `mmworld.load`: config.yaml, tokenizer.json and the weights, as `dtype` (None: as is).

        Raises:
            CheckpointError: a weight is NaN, infinite or too large for `dtype`.
            ResourceError: the disk is full or the folder may not be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(json.loads(json.dumps(asdict(self.config))), sort_keys=False)  # tuples become lists
        write_atomic(folder / CONFIG, text.encode())
        self.tokenizer.save(folder / TOKENIZER)
        save(self, folder / WEIGHTS, dtype=dtype)
        if self.sight is None:
            (folder / SIGHT).unlink(missing_ok=True)  # it would be of other weights
        else:
            save_tensors({"sight": self.sight.to(torch.float16)}, folder / SIGHT)

    def item(self, chunks: Iterable[Chunk], text: str, prompt: str = "") -> Item:
        """The training item that answers `prompt` about `chunks` with `text`."""
        given = self.prompt(prompt)
        return Item(tuple(chunks), (*given, *self.tokenizer.encode(text), self.tokenizer.eos), len(given))

    @staticmethod
    def compose(**parts: Any) -> Any:
        """A model of parts of other checkpoints, see `mmworld.models.zoo.composed.compose`."""
        return resolve("mmworld.models.zoo.composed:compose")(**parts)

    def prompt(self, prompt: str = "") -> tuple[int, ...]:
        """The ids that stand before an answer: <bos> and the prompt."""
        return (self.tokenizer.bos, *(self.tokenizer.encode(prompt) if prompt else ()))

    def observe(self, name: str, tokens: Tokens, origin: float | Tensor) -> Tensor:
        """Tokens of the modality `name` [N, D'] as the backbone takes them [N, D]; `origin` is the time called zero, of
        all or of each [N]."""
        return self._project(name, tokens.x, tokens.start - origin)

    def embed(self, ids: Tensor) -> Tensor:
        """Text ids int64 [...] as the backbone takes them [..., D]."""
        return F.embedding(ids.to(self.device), self.embedding) * self.config.backbone.dim**0.5

    def meaning(self, text: str) -> Tensor:
        """What a text is about, as a direction [D]: the mean of its ids' embeddings, those of common words left out."""
        ids = self.tokenizer.encode(" ".join(content(text)) or text)
        return F.normalize(self.embedding.detach()[torch.tensor(ids or [self.tokenizer.eos])].mean(0).float(), dim=0)

    def sense(self, x: Tensor) -> Tensor | None:
        """What tokens as the backbone takes them [N, D] are about, as a direction [D] among those of `meaning`."""
        if self.sight is None:
            return None
        return F.normalize(x.float().mean(0).to(self.sight) @ self.sight[:-1] + self.sight[-1], dim=0)

    def logits(self, x: Tensor) -> Tensor:
        """What the backbone made of text [..., D], as scores of the next id [..., V]; the head is the embedding."""
        return F.linear(x, self.embedding)

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append text ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self.logits(self.backbone(self.embed(ids), CAUSAL, state)[:, -1])

    def forward(self, items: Sequence[Item]) -> Tensor:
        """All items in one packed pass: logits [sum(len(ids) - 1), V] that predict ids[1:] of each item, in order.

        Raises:
            ConfigError: a chunk's modality has no adapter here.
        """
        return self.predict(self.pack([i.chunks for i in items], [i.ids[:-1] for i in items]))

    def predict(self, packed: Packed) -> Tensor:
        """Scores of the id after each text token of a packed row [T, V]."""
        x = self.backbone(packed.x[None], packed.mask)[0]
        return self.logits(x[packed.text])

    def targets(self, items: Sequence[Item]) -> Tensor:
        """The ids that `forward` predicts, int64 [sum(len(ids) - 1)], UNTRAINED before each item's `loss_from`."""
        ids = [t if at >= i.loss_from else UNTRAINED for i in items for at, t in enumerate(i.ids) if at]
        return torch.tensor(ids, dtype=torch.long, device=self.device)

    def scores(self, items: Sequence[Item]) -> Tensor:
        """Log-probability of each item's ids from `loss_from` on [len(items)]."""
        losses = F.cross_entropy(self(items), self.targets(items), ignore_index=UNTRAINED, reduction="none")
        owner = torch.arange(len(items)).repeat_interleave(torch.tensor([len(i.ids) - 1 for i in items]))
        return losses.new_zeros(len(items)).index_add(0, owner.to(losses.device), -losses)

    def pack(self, streams: Sequence[Sequence[Chunk]], texts: Sequence[Sequence[int]]) -> Packed:
        """One packed row of items, item i being the whole streams streams[i] and then the ids texts[i].

        Each modality's adapter runs once for the batch, and once for a chunk that several items share.
        """
        known = self.adapters.keys()
        if unknown := {c.modality for chunks in streams for c in chunks} - set(known):
            raise ConfigError(f"this model has no adapter for {', '.join(sorted(unknown))}", hint=f"has {list(known)}")
        x, pools = [], []
        for rank, name in enumerate(known):
            owners = [(i, c) for i, chunks in enumerate(streams) for c in chunks if c.modality == name]
            if owners:
                tokens = self._encode(name, [c for _, c in owners])
                pools.append(layout.media(tokens, [i for i, _ in owners], rank))
                origins = [min(c.start for c in streams[i]) for i, _ in owners]
                since = torch.cat([t.start - o for t, o in zip(tokens, origins, strict=True)])
                x.append(self._project(name, torch.cat([t.x for t in tokens]), since))
        pools.append(layout.text([len(t) for t in texts]))
        x.append(self.embed(torch.tensor([t for ids in texts for t in ids], dtype=torch.long)))
        row, is_text, blocks = layout.interleave(pools, len(texts))
        place = torch.from_numpy(row).to(self.device)
        return Packed(torch.cat(x)[place], blocks, torch.from_numpy(is_text).to(self.device).nonzero()[:, 0])

    def _encode(self, name: str, chunks: Sequence[Chunk]) -> list[Tokens]:
        unique = {id(c): c for c in chunks}
        tokens = dict(zip(unique, encode_many(self.adapters[name], list(unique.values())), strict=True))
        return [tokens[id(c)] for c in chunks]

    def _project(self, name: str, x: Tensor, since: Tensor) -> Tensor:
        when = sinusoid(since, TIME_DIM, SHORTEST, LONGEST).to(self.device, self.embedding.dtype)
        return self.projections[name](x) + self.time(when)


def make_adapter(name: str, options: dict[str, Any]) -> Any:
    """The adapter registered as `name`, configured from plain data by the type its constructor's argument has."""
    adapter = modalities.get(name)
    (argument,) = inspect.signature(adapter, eval_str=True).parameters.values()
    return adapter(build(argument.annotation, options, where=f"adapters.{name}"))
