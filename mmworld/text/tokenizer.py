"""Text to ids and back: byte-level pairs (Sennrich et al. 2016; Radford et al. 2019), learnt from our captions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mmworld.errors import CheckpointError
from mmworld.text.spelling import spelling

SPECIALS = ("<pad>", "<bos>", "<eos>")
MAX_BYTES = 16 << 20
MAX_CHARACTERS = 1 << 20
_TYPES: dict[str, set[str | None]] = {
    "model": {"BPE"},
    "normalizer": {None, "Lowercase"},
    "pre_tokenizer": {"ByteLevel"},
    "decoder": {"ByteLevel"},
    "post_processor": {None},
}


class Tokenizer:
    """A byte-level pair vocabulary whose first ids are <pad>, <bos> and <eos>. Any text goes round unchanged
    (up to case, where the vocabulary was learnt in lower case)."""

    pad, bos, eos = range(3)
    ends = (eos,)

    def __init__(self, core: tokenizers.Tokenizer) -> None:
        self._core = core
        core.encode_special_tokens = True  # a caption that says "<eos>" must not end itself

    def __len__(self) -> int:
        return self._core.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without <bos> and <eos>; names of special tokens in it are plain text.

        Raises:
            ValueError: more than MAX_CHARACTERS characters.
        """
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"{len(text)} characters, the limit is {MAX_CHARACTERS}")
        return self._core.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens left out; ids that cut a character in two give U+FFFD."""
        return self._core.decode(list(ids), skip_special_tokens=True).removeprefix(" ")

    def spelling(self) -> list[bytes]:
        """The bytes that each id adds to a text; none of a special one."""
        return spelling(self._core)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, *, lowercase: bool = True) -> Tokenizer:
        """Learn at most `vocab_size` ids from `texts`; the same texts in the same order give the same vocabulary."""
        core = tokenizers.Tokenizer(models.BPE())
        if lowercase:
            core.normalizer = normalizers.Lowercase()
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
        )
        core.train_from_iterator(texts, trainer)
        return cls(core)

    def save(self, path: Path | str) -> None:
        """Write the vocabulary as JSON."""
        part = Path(f"{path}.part")
        part.write_text(self._core.to_str(pretty=False), encoding="utf-8")
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Read a vocabulary that `save` wrote.

        Raises:
            CheckpointError: the file is missing, over MAX_BYTES, not JSON, or not of the parts that `train` makes
                (others may hold a regular expression that never ends).
        """
        try:
            size = Path(path).stat().st_size
            if size > MAX_BYTES:
                raise CheckpointError(f"{path}: {size} bytes, the limit for a vocabulary is {MAX_BYTES}")
            text = Path(path).read_text(encoding="utf-8")
            _check(json.loads(text), str(path))
            return cls(tokenizers.Tokenizer.from_str(text))
        except OSError as e:
            raise CheckpointError(f"{path}: {e.strerror}") from None
        except (ValueError, RecursionError) as e:
            raise CheckpointError(f"{path}: not a vocabulary: {e}") from None
        except CheckpointError:
            raise
        except Exception as e:  # tokenizers raises bare Exception for a malformed file
            raise CheckpointError(f"{path}: not a vocabulary: {e}") from None


def _check(data: Any, path: str) -> None:
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: a vocabulary is a JSON object, not {type(data).__name__}")
    for part, allowed in _TYPES.items():
        made = data.get(part) or {}
        kind = made.get("type") if isinstance(made, dict) else str(made)
        if kind not in allowed:
            raise CheckpointError(f"{path}: {part} of type {kind!r}, must be one of {sorted(map(str, allowed))}")
    specials = [(t.get("id"), t.get("content")) for t in data.get("added_tokens", []) if isinstance(t, dict)]
    if specials != list(enumerate(SPECIALS)):
        raise CheckpointError(f"{path}: special tokens {specials[:5]}, must be {list(enumerate(SPECIALS))}")
