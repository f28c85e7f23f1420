"""The vocabulary of a borrowed checkpoint: its ids, what ends its texts, how it writes a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from mmworld.errors import CheckpointError
from mmworld.text import chat, pieces, tiktoken
from mmworld.text.chat import Chat
from mmworld.text.pieces import Pieces
from mmworld.text.spelling import spelling
from mmworld.text.tokenizer import MAX_CHARACTERS
from mmworld.weights.shards import CONFIG, bounded, read_json

FILE, SETTINGS, GENERATION = "tokenizer.json", "tokenizer_config.json", "generation_config.json"
MAX_BYTES = 64 << 20


class Pretrained:
    """Text to ids as the model was trained on them, and back.

    Args:
        core: the vocabulary.
        ends: the ids after which a text is over.
        tokens: special tokens by what they are for: "bos_token" and so on.
        chat: how a conversation is written; None if the checkpoint does not say.
    """

    def __init__(
        self,
        core: tokenizers.Tokenizer | Pieces,
        ends: frozenset[int],
        tokens: Mapping[str, str] | None = None,
        chat: Chat | None = None,
    ) -> None:
        self._core, self.ends, self.tokens, self.chat = core, ends, dict(tokens or {}), chat

    def __len__(self) -> int:
        return self._core.get_vocab_size()

    def encode(self, text: str, *, whole: bool = True) -> list[int]:
        """Ids of `text`; a whole one has the special ids that the checkpoint puts at its ends.

        Raises:
            ValueError: more than MAX_CHARACTERS characters.
        """
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"{len(text)} characters, the limit is {MAX_CHARACTERS}")
        return self._core.encode(text, add_special_tokens=whole).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special ones left out."""
        return self._core.decode(list(ids), skip_special_tokens=True)

    def id(self, token: str) -> int | None:
        """The id that `token` has by itself."""
        return self._core.token_to_id(token)

    def spelling(self) -> list[bytes]:
        """The bytes that each id adds to a text; none of a special one.

        Raises:
            UsageError: an id's bytes depend on the ids beside it.
        """
        return self._core.spelling() if isinstance(self._core, Pieces) else spelling(self._core)

    @classmethod
    def load(cls, folder: Path, ends: frozenset[int] | None = None) -> Pretrained | None:
        """The vocabulary in a checkpoint's folder: its tokenizer.json, or one of SentencePiece, or of OpenAI's Whisper
        as it was released; None if it has none.

        Args:
            ends: the ids after which a text is over, of a model that knows better than its files.

        Raises:
            UsageError: the vocabulary needs sentencepiece.
            CheckpointError: the file is larger than MAX_BYTES or no vocabulary.
        """
        core: tokenizers.Tokenizer | Pieces
        if (path := folder / FILE).is_file():
            core, last = _read(path), frozenset[int]()
        elif (cut := pieces.read(folder)) is not None:
            core, last = cut, frozenset([cut.eos])
        elif (found := tiktoken.read(folder)) is not None:
            core, last = found
        else:
            return None
        tokens = _tokens(folder)
        ends = _ends(folder, core, tokens) or last if ends is None else ends
        return cls(core, ends, tokens, chat.read(folder, tokens))


def _read(path: Path) -> tokenizers.Tokenizer:
    bounded(path, MAX_BYTES, "vocabulary")
    try:
        core = tokenizers.Tokenizer.from_file(str(path))
    except Exception as e:  # tokenizers raises bare Exception for a malformed file
        raise CheckpointError(f"{path}: not a vocabulary: {e}") from None
    core.no_padding()
    core.no_truncation()
    return core


def _tokens(folder: Path) -> dict[str, str]:
    settings: dict[str, Any] = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    told = {name: x.get("content") if isinstance(x, dict) else x for name, x in settings.items()}
    return {name: x for name, x in told.items() if name.endswith("_token") and isinstance(x, str)}


def _ends(folder: Path, core: tokenizers.Tokenizer | Pieces, tokens: Mapping[str, str]) -> frozenset[int]:
    """Of the first file that says."""
    for name in (GENERATION, CONFIG):
        if (folder / name).is_file() and (said := read_json(folder / name).get("eos_token_id")) is not None:
            return frozenset(said if isinstance(said, list) else [said])
    end = core.token_to_id(tokens["eos_token"]) if "eos_token" in tokens else None
    return frozenset() if end is None else frozenset([end])
