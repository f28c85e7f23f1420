"""Show and Tell (Vinyals et al. 2015): a convolutional network shows, a recurrent one tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from mmworld.config import config, pick
from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo.conversation import asked, begun, pictures, row, vocabulary
from mmworld.nn.lstm import LSTM, LSTMState
from mmworld.types import Takes
from mmworld.vision.resnet import ResNet
from mmworld.weights.keymap import KeyMap
from mmworld.weights.sizes import Depth, Width


@config
class ShowAndTellConfig:
    """What a config.json says: the paper's weights were not released.

    Attributes:
        vision_config: what it would say of the ResNet.
        vocab_size: ids V.
        bos_token_id: begins every caption.
        dim: width D of an embedded word, and of a picture.
        width: H, of what the decoder remembers.
        depth: layers of the decoder.
        dropout: of what comes into the decoder and out of it, in training.
    """

    model_type: Literal["show_and_tell"]
    vision_config: dict[str, Any]
    vocab_size: Width
    bos_token_id: int = 0
    dim: Width = 512
    width: Width = 512
    depth: Depth = 1
    dropout: float = 0.0


class ShowAndTell(nn.Module):
    """The picture is the first word that the decoder reads (figure 3), and the only time that it sees it.

    Args:
        source: what config.json says.

    Raises:
        ConfigError: a value is missing, of the wrong type, or asks for what is not supported.
    """

    takes: ClassVar[Takes] = Takes(("image",))

    def __init__(self, source: Mapping[str, Any]) -> None:
        super().__init__()
        self.source, c = dict(source), pick(ShowAndTellConfig, source, where="config.json")
        self.config = c
        self.vision = ResNet(c.vision_config)
        self.picture = nn.Linear(self.vision.config.hidden_sizes[-1], c.dim)
        self.words = nn.Embedding(c.vocab_size, c.dim)
        self.decoder = LSTM(c.dim, c.width, c.depth)
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(c.width, c.vocab_size)

    def show(self, pixels: Tensor) -> LSTMState:
        """Normalised pictures [B, C, H, W] to what the decoder remembers of them (eq. 10)."""
        state = LSTMState()
        self.decoder(self.dropout(self.picture(self.vision.pool(self.vision(pixels))))[:, None], state)
        return state

    def begin(self, messages: Sequence[Message]) -> tuple[LSTMState, Tensor]:
        """Look at the last picture; an assistant's words are how the caption begins.

        Raises:
            UsageError: there is no picture, or there is a question: this model tells what it sees, and cannot be asked.
        """
        pixels, tokenizer = pictures(self, messages), vocabulary(self)
        if pixels is None or asked(messages):
            raise UsageError("this model captions pictures: show it one, and ask nothing")
        state = self.show(pixels[-1:])
        ids = [self.config.bos_token_id, *tokenizer.encode(begun(messages), whole=False)]
        return state, self.read(row(self, ids), state)

    def forward(self, ids: Tensor, state: LSTMState) -> Tensor:
        """Ids of the caption so far [B, T], <bos> first, to the scores of those that follow [B, T, V] (eq. 11, 12)."""
        return self.head(self.dropout(self.decoder(self.dropout(self.words(ids)), state)))

    def read(self, ids: Tensor, state: LSTMState) -> Tensor:
        """Append ids [B, n] to the state's rows; logits [B, V] of the id that comes next."""
        return self(ids, state)[:, -1]

    @property
    def keymap(self) -> KeyMap:
        """The names are ours but for those of the ResNet, which are transformers'."""
        own = [name for name in self.state_dict() if not name.startswith("vision.")]
        return KeyMap({name: name for name in own}) | self.vision.keymap.within("vision.", "vision.")
