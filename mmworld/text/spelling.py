"""What each id of a vocabulary adds to a text, as bytes: what a grammar is followed by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tokenizers

from mmworld.errors import UsageError
from mmworld.text.tiktoken import characters

SPACE = "▁"
"""How SentencePiece, and who follows it, writes a space in a piece."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def spelling(core: tokenizers.Tokenizer) -> list[bytes]:
    """The bytes of each id; none of those that say nothing: special ones, and numbers that are no id.

    Raises:
        UsageError: an id's bytes depend on the ids beside it.
    """
    ids = core.get_vocab(with_added_tokens=True)
    found, spelled = [b""] * (max(ids.values()) + 1), _speller(core)
    for token, i in ids.items():
        found[i] = spelled(token)
    for i, added in core.get_added_tokens_decoder().items():
        found[i] = b"" if added.special else added.content.encode()
    return found


def piece(text: str) -> bytes:
    """The bytes of a piece of SentencePiece."""
    found = _BYTE.fullmatch(text)
    return bytes.fromhex(found[1]) if found else text.replace(SPACE, " ").encode()


def _speller(core: tokenizers.Tokenizer) -> Callable[[str], bytes]:
    kinds = set(_kinds(json.loads(core.decoder.__getstate__()) if core.decoder else {}))
    if "ByteLevel" in kinds:
        return _byte_level
    if kinds & {"ByteFallback", "Metaspace"}:
        return piece
    raise UsageError("this model's vocabulary is of words, not of bytes: no grammar can be held to")


def _kinds(decoder: dict[str, Any]) -> Iterator[str]:
    yield str(decoder.get("type"))
    parts: Sequence[dict[str, Any]] = decoder.get("decoders", ())
    for part in parts:
        yield from _kinds(part)


_BYTES = {ord(shown): byte for byte, shown in characters().items()}


def _byte_level(token: str) -> bytes:
    """A token of other characters than those that stand for bytes is itself."""
    try:
        return bytes(_BYTES[ord(c)] for c in token)
    except KeyError:
        return token.encode()
