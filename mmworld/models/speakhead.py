"""A listen/speak head: after each block it says whether now is the time to speak, as it was trained to."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.config import build, config
from mmworld.errors import CheckpointError, ConfigError
from mmworld.models.load import find
from mmworld.models.world import WEIGHTS
from mmworld.stream.policy import TICK
from mmworld.types import Chunk, Gap
from mmworld.weights.checkpoint import load_safetensors, read_header, save_tensors
from mmworld.weights.keymap import load_into
from mmworld.weights.shards import revision
from mmworld.weights.sizes import Width

HEAD = "speakhead/weights.safetensors"
"""Its file in a model's folder, and not beside the model's weights, which are told by all that lies there."""

KIND = "speakhead"
"""The file's entry that says what the head is."""


@config
class SpeakHeadConfig:
    """
    Attributes:
        dims: of each modality whose blocks it reads, the width of a token; it takes no notice of others.
        width: of what it makes of a token.
        hidden: of what it remembers.
        threshold: probability from which on it speaks, where a policy says nothing else.
    """

    dims: dict[str, Width]
    width: Width = 32
    hidden: Width = 64
    threshold: float = 0.5


class SpeakHead(nn.Module):
    """The probability that something has just been seen or heard to its end, after each block of any modality.

    As the streaming EOS of VideoLLM-online (Chen et al. 2024, section 3.2) it learns to be silent at each step but at
    those when something is to be said. It reads what the adapters make of a block, not the backbone's states: the mean
    and the largest of what its tokens become, and a gated recurrent unit (Cho et al. 2014) remembers the blocks before.
    So blocks still enter the backbone many at a time, and when it speaks does not depend on what was said.
    """

    def __init__(self, config: SpeakHeadConfig) -> None:
        super().__init__()
        c = self.config = config
        self.reads = nn.ModuleDict({name: nn.Linear(dim, c.width) for name, dim in sorted(c.dims.items())})
        self.remembers = nn.GRU(2 * c.width, c.hidden)
        self.says = nn.Linear(c.hidden, 1)

    def look(self, modality: str, x: Tensor) -> Tensor:
        """The tokens of blocks [..., n, D] to what there is of each [..., 2 * width].

        Raises:
            ConfigError: they are of another width than those it was trained on.
        """
        if x.shape[-1] != (dim := self.config.dims[modality]):
            message = f"the listen/speak head reads {modality} tokens of width {dim}, this model's have {x.shape[-1]}"
            raise ConfigError(message, hint="the head that was trained with this model, or another policy")
        x = F.gelu(self.reads[modality](x))
        return torch.cat((x.mean(-2), x.amax(-2)), -1)

    def forward(self, seen: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks in order [T, 2 * width] and what is remembered [1, H] to log-odds [T], and what is remembered then."""
        x, past = self.remembers(seen, past)
        return self.says(x)[:, 0], past

    def save(self, path: Path | str, about: Mapping[str, Any]) -> None:
        """Write it as float16, and with it how it came about: `model` is the revision of the weights it reads from.
        Raises ResourceError as a save does.
        """
        tensors = {name: x.half() for name, x in self.state_dict().items()}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, path, {KIND: json.dumps({"config": asdict(self.config), "about": about})})

    @classmethod
    def load(cls, model: str | os.PathLike[str]) -> SpeakHead:
        """The head of a model, by the model's name or folder, ready to use.

        Raises:
            CheckpointError: there is no such model, it has no head, or one that is damaged or of other weights.
        """
        folder = find(model)
        path = folder / HEAD
        if not path.is_file():
            hint = "mmworld train nano_speak trains one; or another policy"
            raise CheckpointError(f"{folder}: this model has no listen/speak head, no {HEAD}", hint=hint)
        try:
            told = json.loads(read_header(path)["__metadata__"][KIND])
            head, learnt = cls(build(SpeakHeadConfig, told["config"], where="config")), told["about"]["model"]
        except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as e:
            raise CheckpointError(f"{path}: no listen/speak head: {e}") from None
        if (folder / WEIGHTS).is_file() and learnt != revision(folder):
            raise CheckpointError(f"{path}: was trained with other weights, {learnt}, than {revision(folder)} here")
        load_into(head, load_safetensors(path), where=str(path))
        return head.eval().requires_grad_(False)


@dataclass(frozen=True)
class AsTrained:
    """When a model's listen/speak head says so: once for each time that its probability rises over the threshold. Where
    it never does, and where nothing comes that it was trained on, every `longest` seconds.

    Attributes:
        head: a listen/speak head, or the name or folder of the model that has it.
        threshold: None: the one that was best on what was held out of the head's training.
        shortest: seconds between two captions.
        longest: seconds after which to speak in any case.

    Raises:
        CheckpointError: as `SpeakHead.load`.
    """

    head: SpeakHead | str | os.PathLike[str]
    threshold: float | None = None
    shortest: float = 1.0
    longest: float = 30.0
    listener: SpeakHead = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, is {self.threshold}")
        if not 0 <= self.shortest <= self.longest:
            raise ValueError(f"shortest must be 0 to {self.longest}, is {self.shortest}")
        head = self.head if isinstance(self.head, SpeakHead) else SpeakHead.load(self.head)
        object.__setattr__(self, "listener", head)

    def timed(self, modalities: Sequence[str]) -> bool:
        return not set(modalities) & self.listener.config.dims.keys()

    def start(self, origin: float) -> Listener:
        """The judge of a stream that begins at `origin` seconds."""
        c = self.listener.config
        past, threshold = torch.zeros(1, c.hidden), self.threshold or c.threshold
        return Listener(self.listener, threshold, self.shortest, self.longest, past, origin, origin + self.longest)


@dataclass
class Listener:
    """Follows one stream with a head.

    Attributes:
        past: what the head remembers [1, H].
        begun: seconds at which the segment began.
        latest, now: seconds at which to speak in any case, and because the head says so.
        waits: it may speak when the probability is over the threshold, as it was under it since it last spoke.
    """

    head: SpeakHead
    threshold: float
    shortest: float
    longest: float
    past: Tensor
    begun: float
    latest: float
    now: float = math.inf
    waits: bool = True
    least: float = 0.0

    @property
    def due(self) -> float:
        return min(self.latest, self.now)

    def hear(self, item: Chunk | Gap, rate: float | None) -> None:
        pass

    @torch.no_grad()
    def changed(self, modality: str, x: Tensor, end: float) -> bool:
        """False: it never speaks before a block, but may be due at the block's end. Raises as `SpeakHead.look`."""
        if modality in self.head.config.dims:
            odds, self.past = self.head(self.head.look(modality, x.to(self.past))[None], self.past)
            self.note(float(odds.sigmoid()), end)
        return False

    def note(self, probability: float, end: float) -> None:
        """Something has just come to its end with this probability, at the end of a block."""
        if probability < self.threshold:
            self.waits = True
        elif self.waits and end >= self.begun + self.shortest - TICK:
            self.waits, self.now = False, min(self.now, end)

    def restart(self, start: float, end: float) -> float:
        self.begun, self.latest, self.now = start, max(start + self.longest, end), math.inf
        return start
