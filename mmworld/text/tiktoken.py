"""The vocabularies of OpenAI's Whisper as they were released: byte pairs by rank, special tokens by rule."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from mmworld.errors import CheckpointError
from mmworld.text.languages import LANGUAGES
from mmworld.weights.shards import CONFIG, bounded, read_json

FILES = {"multilingual.tiktoken": True, "gpt2.tiktoken": False}
"""Names, and whether models of many languages have them."""
END, TIMES = "<|endoftext|>", 1501
"""Ends a text; and how many times there are tokens for, every 0.02 s."""
OTHERS = 7
"""Special tokens that are neither languages, nor times, nor END."""
MAX_BYTES = 16 << 20


def read(folder: Path) -> tuple[tokenizers.Tokenizer, frozenset[int]] | None:
    """The vocabulary of a Whisper's folder, and the ids that end its texts; None if it has none of FILES. Where it has
    both, config.json says by its size which is meant.

    Raises:
        CheckpointError: a file is too large, damaged, or of another size than config.json says.
    """
    size = read_json(folder / CONFIG).get("vocab_size") if (folder / CONFIG).is_file() else None
    there = [folder / name for name in FILES if (folder / name).is_file()]
    if not there:
        return None
    path = there[-1] if size is not None and size < 51865 else there[0]
    ranks = _ranks(path)
    n_languages = 99 if size is None else size - len(ranks) - 1 - OTHERS - TIMES
    if n_languages not in (99, len(LANGUAGES)):
        raise CheckpointError(f"{path}: {len(ranks)} byte pairs do not go with a vocab_size of {size}")
    return _vocabulary(ranks, special(n_languages)), frozenset([len(ranks)])


def special(n_languages: int) -> list[str]:
    """The special tokens in the order of their ids, which follow those of the byte pairs."""
    languages = [f"<|{code}|>" for code in list(LANGUAGES)[:n_languages]]
    tasks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{i * 0.02:.2f}|>" for i in range(TIMES)]
    return [END, "<|startoftranscript|>", *languages, *tasks, *times]


def _ranks(path: Path) -> dict[bytes, int]:
    """Bytes and their ids; those of no bytes count, too."""
    bounded(path, MAX_BYTES, "vocabulary")
    try:
        pairs = (line.split() for line in path.read_bytes().splitlines() if line)
        ranks = {(b"" if text == b"=" else base64.b64decode(text, validate=True)): int(rank) for text, rank in pairs}
    except (ValueError, binascii.Error) as e:
        raise CheckpointError(f"{path}: not a vocabulary: {e}") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([b]) not in ranks for b in range(256)):
        raise CheckpointError(f"{path}: not a vocabulary: its ids have gaps, or it lacks a byte")
    return ranks


def _vocabulary(ranks: Mapping[bytes, int], marks: list[str]) -> tokenizers.Tokenizer:
    shown = characters()

    def text(token: bytes) -> str:
        return "".join(shown[b] for b in token)

    vocab = {text(token): rank for token, rank in ranks.items() if token}
    vocab |= {mark: len(ranks) + i for i, mark in enumerate(marks)}
    merges = [(text(a), text(b)) for a, b in chain.from_iterable(_merges(ranks))]
    core = tokenizers.Tokenizer(models.BPE(vocab, merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(marks)
    return core


def _merges(ranks: Mapping[bytes, int]) -> Iterator[list[tuple[bytes, bytes]]]:
    """For each id in order, the pairs that make its bytes."""
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        yield sorted((p for p in pairs if p[0] in ranks and p[1] in ranks), key=lambda p: (ranks[p[0]], ranks[p[1]]))


def characters() -> dict[int, str]:
    """The character that each byte is shown as: itself where it is printable, one from 256 on where not (GPT-2)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}
