"""Vocabularies of SentencePiece give the ids of that library, and beside special tokens those of transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import vocabularies
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from mmworld.errors import CheckpointError, UsageError
from mmworld.text.pretrained import Pretrained

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra 'sentencepiece' is not installed")
MARKS = ["<s>", "</s>", "<unk>", "<image>"]
MIXED = st.lists(st.text(max_size=12) | st.sampled_from([*MARKS, " ", "  the", "cat\n"]), max_size=8).map("".join)


def trained(path: Path, kind: str) -> Any:
    """A small model of a kind in a file, and as the library reads it."""
    path.write_bytes(model := vocabularies.sentencepiece(kind))
    return sentencepiece.SentencePieceProcessor(model_proto=model)


@pytest.fixture(scope="module", params=["llama", "bpe", "unigram", "char"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "llama":
        shared: Path = request.getfixturevalue("shared_data")
        (folder / "tokenizer.model").symlink_to(shared / "tokenizers/llama2/tokenizer.model")
    else:
        name = {"bpe": "tokenizer.model", "unigram": "spiece.model", "char": "spm_char.model"}[request.param]
        trained(folder / name, request.param)
    return folder


@given(text=st.text(max_size=80))
def test_ids_and_texts_are_the_library_s(folder: Path, text: str) -> None:
    (path,) = folder.iterdir()
    ours, theirs = Pretrained.load(folder), sentencepiece.SentencePieceProcessor(model_file=str(path))
    ids = theirs.encode(text)
    assert ours.encode(text, whole=False) == ids
    assert ours.encode(text) == ([1, *ids] if path.name == "tokenizer.model" else [*ids, 2])
    assert ours.decode(ours.encode(text)) == theirs.decode([i for i in ids if i != 0])
    assert (len(ours), ours.ends) == (theirs.get_piece_size(), {2})
    assert all(ours.id(theirs.id_to_piece(i)) == i for i in ids)
    assert ours.id("no such piece") is None


@pytest.fixture(scope="module", params=[True, False], ids=["always", "first"])
def pair(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """LLaMA's vocabulary and a token for pictures, in the two ways of text behind a special token; and theirs."""
    hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
    from transformers.convert_slow_tokenizer import generate_merges

    legacy, folder = request.param, tmp_path_factory.mktemp("pair")
    path = shared_data / "tokenizers/llama2/tokenizer.model"
    (folder / path.name).symlink_to(path)
    said = {"legacy": legacy, "tokenizer_class": "LlamaTokenizer"}
    said["added_tokens_decoder"] = {"32000": {"content": "<image>", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    core = sentencepiece.SentencePieceProcessor(model_file=str(path))
    names = [core.id_to_piece(i) for i in range(len(core))]
    merges = generate_merges({n: i for i, n in enumerate(names)}, {n: core.get_score(i) for i, n in enumerate(names)})
    theirs = hf.LlamaTokenizer(
        vocab={n: i for i, n in enumerate(names)}, merges=merges, legacy=legacy, add_bos_token=True
    )
    if legacy:  # as the released tokenizer.json has it
        theirs._tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        theirs._tokenizer.pre_tokenizer = None
    theirs.add_tokens([hf.AddedToken("<image>", special=True, normalized=False)])
    return Pretrained.load(folder), theirs


@given(text=MIXED)
def test_special_tokens_in_a_text_are_as_in_transformers(pair: Any, text: str) -> None:
    ours, theirs = pair
    text = text.lstrip(" ▁")  # before which tokenizers, unlike SentencePiece, puts no space
    assert ours.encode(text) == theirs(text).input_ids
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs(text).input_ids, skip_special_tokens=True)
    assert (ours.id("<image>"), len(ours)) == (32_000, len(theirs))


def test_spaces_beside_a_token_and_ends_are_as_the_settings_say(tmp_path: Path) -> None:
    core = trained(tmp_path / "spm_char.model", "char")
    n = len(core)
    mask = {"content": "<mask>", "lstrip": True, "special": False}
    said = {"add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": {str(n + 1): mask}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<ctc_blank>": n, "<mask>": n + 1}))
    ours = Pretrained.load(tmp_path)
    assert ours.encode("the <mask>cat") == [1, *core.encode("the"), n + 1, *core.encode("cat")[1:]]
    assert ours.decode([*core.encode("the"), n, n + 1, 2, n + 5]) == "the<mask>"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False}))
    assert Pretrained.load(tmp_path).encode("cat") == [*core.encode("cat")[1:], 2]


def test_what_is_no_vocabulary_of_sentencepiece_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.model"
    for damaged in (b"", b"abc"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"tokenizer\.model: not a vocabulary"):
            Pretrained.load(tmp_path)
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(CheckpointError, match="the limit for a vocabulary"):
        Pretrained.load(tmp_path)
    trained(path, "bpe")
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    with pytest.raises(CheckpointError, match="XLMRobertaTokenizer is not supported"):
        Pretrained.load(tmp_path)
    settings.write_text('{"added_tokens_decoder": {"1": {}}}')
    with pytest.raises(CheckpointError, match="not a vocabulary"):
        Pretrained.load(tmp_path)
    settings.unlink()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UsageError, match=r"needs sentencepiece"):
        Pretrained.load(tmp_path)
