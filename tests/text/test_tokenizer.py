"""Tokenizer: any text goes round, specials are never spelled by text, foreign files are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError
from mmworld.text.tokenizer import MAX_BYTES, MAX_CHARACTERS, SPECIALS, Tokenizer

TEXTS = ["a red ball rolls over the green grass", "two dogs bark", "it rains; the two men run"] * 3
TOKENIZER = Tokenizer.train(TEXTS, 320, lowercase=False)


@given(st.text(max_size=40))
def test_any_text_goes_round(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text.removeprefix(" ")


@given(st.text(max_size=20), st.sampled_from(SPECIALS), st.text(max_size=20))
def test_special_names_in_a_text_are_text(a: str, special: str, b: str) -> None:
    ids = TOKENIZER.encode(a + special + b)
    assert not {TOKENIZER.pad, TOKENIZER.bos, TOKENIZER.eos} & set(ids)
    assert special in TOKENIZER.decode(ids)


@given(st.lists(st.sampled_from(["a", "red", "ball", "two", "dogs", "bark"]), min_size=1))
def test_words_after_a_prompt_are_the_same_words(words: list[str]) -> None:
    """A prompt and a text encoded apart are the ids of both together."""
    together = TOKENIZER.encode(" ".join(["it", *words]))
    assert TOKENIZER.encode("it") + TOKENIZER.encode(" ".join(words)) == together


def test_lower_case_is_part_of_the_vocabulary() -> None:
    lower = Tokenizer.train(TEXTS, 320)
    assert lower.decode(lower.encode("A RED Ball")) == "a red ball"


def test_learns_words_and_keeps_to_the_size() -> None:
    assert len(TOKENIZER) <= 320
    assert len(TOKENIZER.encode("the red ball")) < len("the red ball") / 2
    assert Tokenizer.train(TEXTS, 320, lowercase=False).encode("red dogs") == TOKENIZER.encode("red dogs")


def test_saved_and_loaded(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert len(loaded) == len(TOKENIZER)
    text = "Two dogs <eos> ☃"
    assert loaded.encode(text) == TOKENIZER.encode(text)


def test_ids_nobody_learnt_are_left_out() -> None:
    assert TOKENIZER.decode([TOKENIZER.bos, 10**6, *TOKENIZER.encode("red"), TOKENIZER.eos]) == "red"


def change(key: str, value: Any) -> dict[str, Any]:
    return json.loads(TOKENIZER._core.to_str()) | {key: value}


BAD = {
    "no json": ("{", "not a vocabulary"),
    "a list": ("[]", "JSON object"),
    "deep": ("[" * 200_000, "not a vocabulary"),
    "endless regex": (change("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a*)*b"}}), "'Split'"),
    "replacing normaliser": (change("normalizer", {"type": "Replace", "content": "x"}), "'Replace'"),
    "template": (change("post_processor", {"type": "TemplateProcessing"}), "'TemplateProcessing'"),
    "unigram": (change("model", {"type": "Unigram", "vocab": []}), "'Unigram'"),
    "merges of nothing": (change("model", {"type": "BPE", "vocab": {}, "merges": ["q z"]}), "not a vocabulary"),
    "other specials": (change("added_tokens", []), "special tokens"),
    "a word for a part": (change("decoder", "ByteLevel"), "not a vocabulary"),
}


@pytest.mark.parametrize("name", BAD)
def test_foreign_files(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    (tmp_path / "tokenizer.json").write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(CheckpointError, match=message):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="the limit"):
        Tokenizer.load(tmp_path / "big.json")
    with pytest.raises(CheckpointError, match="No such file"):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match="the limit"):
        TOKENIZER.encode("a" * (MAX_CHARACTERS + 1))
