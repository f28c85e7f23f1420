"""What text decoders have in common: ids to the scores of the ids that follow."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.attention import CAUSAL, Mask
from mmworld.nn.position import positions
from mmworld.nn.state import KVState


class Decoder(nn.Module):
    """A text decoder. A family gives `hidden`, the embedding, and a head where it is not the embedding.

    Attributes:
        embedding: of the ids.
        head: to the scores; None where the embedding is it.
    """

    embedding: nn.Embedding
    head: nn.Linear | None

    def init_state(self) -> KVState:
        return KVState()

    def embed(self, ids: Tensor) -> Tensor:
        """Ids int64 [...] to [..., D], without their places."""
        return self.embedding(ids)

    def hidden(self, x: Tensor, state: KVState | None = None, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Embedded tokens [B, T, D] to what the backbone makes of them; arguments as for `forward`."""
        raise NotImplementedError

    def ordered(self, x: Tensor, state: KVState | None, lengths: tuple[int, ...] | None) -> tuple[Mask, Tensor]:
        """The rule of embedded tokens [B, T, D], and their positions [T] ([B, T] of several streams); arguments as for
        `forward`."""
        if state is not None:
            return CAUSAL, state.places(x.shape[1], x.device)
        mask = Mask("causal", lengths=lengths)
        return mask, positions(mask, x.shape[1], x.device)

    def logits(self, x: Tensor) -> Tensor:
        """What the backbone made of ids [..., D], as scores of the next id [..., V]."""
        return F.linear(x, self.embedding.weight) if self.head is None else self.head(x)

    def forward(self, ids: Tensor, state: KVState | None = None, lengths: tuple[int, ...] | None = None) -> Tensor:
        """Ids [B, T] to the scores of the ids that follow [B, T, V].

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            LengthError: the text is longer than the positions that were learned.
        """
        return self.logits(self.hidden(self.embed(ids), state, lengths))

    def start(self, x: Tensor) -> tuple[KVState, Tensor]:
        """Embedded tokens [B, T, D] as the beginning of streams: their state, and the logits [B, V] of what follows."""
        state = self.init_state()
        return state, self.logits(self.hidden(x, state)[:, -1])

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self.logits(self.hidden(self.embed(ids), state)[:, -1])


class Told(nn.Module):
    """A model whose words are those of a language model, which is told what it is shown. A family gives `embed`.

    Attributes:
        language: what writes.
    """

    language: Any

    def init_state(self) -> KVState:
        state: KVState = self.language.init_state()
        return state

    def embed(self, ids: Tensor, shown: Any = None) -> Tensor:
        """Ids [B, T], and what is shown in the places that stand for it among them, to [B, T, D].

        Raises:
            ValueError: what is shown does not fill those places, or overfills them.
        """
        raise NotImplementedError

    def forward(
        self, ids: Tensor, shown: Any = None, state: KVState | None = None, lengths: tuple[int, ...] | None = None
    ) -> Tensor:
        """Ids [B, T], and what is shown in its places, to the scores of the ids that follow [B, T, V].

        Args:
            state: of the stream that the ids go on with; None is a fresh one.
            lengths: of the texts packed in the row.

        Raises:
            ValueError: what is shown does not fill its places, or overfills them.
        """
        logits: Tensor = self.language.logits(self.language.hidden(self.embed(ids, shown), state, lengths))
        return logits

    def read(self, ids: Tensor, state: KVState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        logits: Tensor = self.language.read(ids, state)
        return logits
