"""The bytes of a vocabulary's ids, one after the other, are the text that the vocabulary makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models
from vocabularies import KINDS, vocabulary

from mmworld.errors import UsageError
from mmworld.text.pretrained import Pretrained

TEXT = st.text(max_size=40) | st.text('{}[]": ,é好ab\n<>_/toolca', max_size=40)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A vocabulary and its bytes."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = vocabulary(request.param, folder, lambda: request.getfixturevalue("shared_data"))
    return tokenizer, tokenizer.spelling()


def encoded(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, whole=False) if isinstance(tokenizer, Pretrained) else tokenizer.encode(text)


@given(text=TEXT)
def test_bytes_are_the_text_s(pair: Any, text: str) -> None:
    tokenizer, spelled = pair
    ids = encoded(tokenizer, text)
    said = b"".join(spelled[i] for i in ids).decode()
    assert tokenizer.decode(ids) in (said, said.removeprefix(" "))


@given(data=st.data())
def test_so_they_are_of_any_ids(pair: Any, data: st.DataObject) -> None:
    tokenizer, spelled = pair
    ids = data.draw(st.lists(st.integers(0, len(spelled) - 1), max_size=12))
    said = b"".join(spelled[i] for i in ids)
    try:
        text = said.decode()
    except UnicodeDecodeError:
        return
    assert tokenizer.decode(ids) in (text, text.removeprefix(" "))


def test_every_byte_can_be_said_and_no_end_has_any(pair: Any) -> None:
    tokenizer, spelled = pair
    assert {bytes([i]) for i in range(256)} <= set(spelled)
    assert all(spelled[i] == b"" for i in tokenizer.ends)


def test_a_vocabulary_of_words_has_no_bytes() -> None:
    core = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    core.decoder = decoders.WordPiece()
    with pytest.raises(UsageError, match="of words, not of bytes"):
        Pretrained(core, frozenset({0})).spelling()
