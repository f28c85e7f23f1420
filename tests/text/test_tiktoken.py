"""Whisper's released vocabularies give the ids of a byte-pair merge by the file's own ranks."""

from __future__ import annotations

import base64
import json
import shutil
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import assume, given
from hypothesis import strategies as st

from mmworld.errors import CheckpointError
from mmworld.text.languages import LANGUAGES, code
from mmworld.text.pretrained import Pretrained

NAMES = "multilingual", "gpt2"
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
"""How GPT-2 cuts a text before it merges bytes."""


@lru_cache(maxsize=2)
def ranks(path: Path) -> dict[bytes, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def merged(text: str, known: dict[bytes, int]) -> list[int]:
    """Of each word, again and again the neighbours that make the lowest rank become one."""
    ids = []
    for word in WORDS.findall(text):
        parts = [bytes([b]) for b in word.encode()]
        while True:
            ranked = [(known[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in known]
            if not ranked:
                break
            _, i = min(ranked)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [known[p] for p in parts]
    return ids


@lru_cache(maxsize=2)
def vocabulary(name: str, source: Path, base: Path) -> Pretrained:
    folder = base / name
    folder.mkdir(exist_ok=True)
    shutil.copy(source / "tokenizers" / "whisper" / f"{name}.tiktoken", folder)
    found = Pretrained.load(folder)
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
@given(text=st.text(max_size=60) | st.text(alphabet="ab e'nt ,.0é好\n", max_size=60))
def test_ids_are_those_of_the_ranks(
    name: str, text: str, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume("<|" not in text)  # a special token is an id of its own
    ours = vocabulary(name, shared_data, tmp_path_factory.getbasetemp())
    known = ranks(shared_data / "tokenizers" / "whisper" / f"{name}.tiktoken")
    ids = ours.encode(text)
    assert ids == merged(text, known)
    assert ours.decode(ids) == text


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_follow_in_their_order(
    name: str, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, many = vocabulary(name, shared_data, tmp_path_factory.getbasetemp()), int(name == "multilingual")
    begin = 50257 + many  # as the released generation_config.json files have them
    assert ours.ends == {begin - 1}
    assert ours.id("<|startoftranscript|>") == begin
    assert ours.id("<|en|>") == begin + 1
    assert ours.id("<|su|>") == begin + 99
    assert ours.id("<|transcribe|>") == begin + 101
    assert ours.id("<|notimestamps|>") == begin + 105
    assert ours.id("<|30.00|>") == begin + 106 + 1500
    assert len(ours) == begin + 1607 - many  # one id of the larger has no bytes
    assert ours.decode([begin, begin + 106, *ours.encode(" hello"), begin - 1]) == " hello"


def test_the_size_says_which_file_and_how_many_languages(shared_data: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copy(shared_data / "tokenizers" / "whisper" / f"{name}.tiktoken", tmp_path)
    for size, end, last in ((51865, 50257, 50363), (51866, 50257, 50364), (51864, 50256, 50362)):
        (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size}))
        found = Pretrained.load(tmp_path)
        assert (found.ends, found.id("<|notimestamps|>")) == ({end}, last)
        assert (found.id("<|yue|>") is not None) == (size == 51866)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 50000}))
    with pytest.raises(CheckpointError, match="do not go with a vocab_size of 50000"):
        Pretrained.load(tmp_path)


@pytest.mark.parametrize("text", ["IQ== 0\n", "IQ== one\n", "I 0\n", "IQ==\n"])
def test_a_damaged_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "gpt2.tiktoken").write_text(text)
    with pytest.raises(CheckpointError, match=r"gpt2\.tiktoken: not a vocabulary"):
        Pretrained.load(tmp_path)


def test_languages_are_the_reference_s() -> None:
    hf = pytest.importorskip("transformers.models.whisper.tokenization_whisper")
    assert list(LANGUAGES.items()) == list(hf.LANGUAGES.items())
    assert (code("German"), code(" DE"), code("haitian creole"), code("elvish")) == ("de", "de", "ht", None)
