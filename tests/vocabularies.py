"""Vocabularies of every kind that is read: trained here, and real ones where the shared data are."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mmworld.text.pretrained import Pretrained
from mmworld.text.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat", "naïve cafés, 3 dogs!", "two boys play in the snow", "a dog runs"] * 20
CODE = ['{"name": "seek", "arguments": {"time": 2.5}}', '[{"a": [1, 2], "b": {"c": ""}}, true, null]'] * 20
"""So that some tokens are several marks: quotes, braces and commas in one."""
REAL = {"whisper": "tokenizers/whisper/multilingual.tiktoken", "llama": "tokenizers/llama2/tokenizer.model"}
KINDS = ("byte-level", "metaspace", "bpe", "unigram", "own", *REAL)


def sentencepiece(kind: str) -> bytes:
    """A small model of a kind of SentencePiece."""
    library = pytest.importorskip("sentencepiece", reason="the extra 'sentencepiece' is not installed")
    model, fallback = io.BytesIO(), kind != "char"
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type=kind,
        vocab_size=330 if fallback else 40,
        byte_fallback=fallback,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def vocabulary(kind: str, folder: Path, shared: Callable[[], Path]) -> Any:
    """A vocabulary of one of KINDS, made in a folder.

    Args:
        shared: where the shared data are; skips the test if they are not.
    """
    if kind == "own":
        return Tokenizer.train([*TEXTS, *CODE], 360, lowercase=False)
    if kind in REAL:
        source = shared() / REAL[kind]
        (folder / source.name).symlink_to(source)
    elif kind in ("bpe", "unigram"):
        (folder / {"bpe": "tokenizer.model", "unigram": "spiece.model"}[kind]).write_bytes(sentencepiece(kind))
    else:
        (_byte_level if kind == "byte-level" else _metaspace)().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    found = Pretrained.load(folder)
    assert found is not None
    return found


def _byte_level() -> tokenizers.Tokenizer:
    """As GPT-2 and Qwen have it, and like Qwen's with marks of calls that are no special tokens."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    core.train_from_iterator([*TEXTS, *CODE], trainer)
    core.add_tokens([tokenizers.AddedToken(t, special=False) for t in ("<tool_call>", "</tool_call>")])
    return core


def _metaspace() -> tokenizers.Tokenizer:
    """As LLaMA 2 has it in tokenizer.json."""
    core = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(parts)
    marks = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    core.train_from_iterator([*TEXTS, *CODE], trainers.BpeTrainer(vocab_size=420, special_tokens=marks))
    made = json.loads(core.to_str())
    made["added_tokens"] = made["added_tokens"][:3]
    return tokenizers.Tokenizer.from_str(json.dumps(made))
