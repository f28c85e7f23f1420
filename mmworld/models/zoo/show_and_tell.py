"""Show and Tell (Vinyals et al. 2015): a convolutional network shows, a recurrent one tells."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mmworld.config import config
from mmworld.nn.lstm import LSTM, LSTMState
from mmworld.vision.resnet import ResNet


@config
class ShowAndTellConfig:
    """
    Attributes:
        vision: what config.json would say of the ResNet.
        vocab: ids V.
        dim: width D of an embedded word, and of a picture.
        width: H, of what the decoder remembers.
        depth: layers of the decoder.
        dropout: of what comes into the decoder and out of it, in training.
    """

    vision: dict[str, Any]
    vocab: int
    dim: int = 512
    width: int = 512
    depth: int = 1
    dropout: float = 0.0


class ShowAndTell(nn.Module):
    """The picture is the first word that the decoder reads (figure 3), and the only time that it sees it."""

    def __init__(self, c: ShowAndTellConfig) -> None:
        super().__init__()
        self.config = c
        self.vision = ResNet(c.vision)
        self.picture = nn.Linear(self.vision.config.hidden_sizes[-1], c.dim)
        self.words = nn.Embedding(c.vocab, c.dim)
        self.decoder = LSTM(c.dim, c.width, c.depth)
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.width, c.vocab)

    def show(self, pixels: Tensor) -> LSTMState:
        """Normalised pictures [B, C, H, W] to what the decoder remembers of them (eq. 10)."""
        state = LSTMState()
        self.decoder(self.dropout(self.picture(self.vision.pool(self.vision(pixels))))[:, None], state)
        return state

    def forward(self, ids: Tensor, state: LSTMState) -> Tensor:
        """Ids of the caption so far [B, T], <bos> first, to the scores of those that follow [B, T, V] (eq. 11, 12)."""
        return self.head(self.dropout(self.decoder(self.dropout(self.words(ids)), state)))

    def read(self, ids: Tensor, state: LSTMState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self(ids, state)[:, -1]
