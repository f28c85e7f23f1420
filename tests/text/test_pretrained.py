"""A borrowed vocabulary gives transformers' ids, and a borrowed model goes on with text as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

import mmworld
from mmworld.errors import CheckpointError
from mmworld.generate.beam import Beam
from mmworld.generate.decode import complete
from mmworld.generate.stop import Stop
from mmworld.text.pretrained import Pretrained

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
TEXTS = ["a dog runs over the grass", "two boys play in the snow", "naïve café, 3 dogs!", "the snow is white"] * 3


def vocabulary(folder: Path) -> Any:
    """A fast tokenizer of transformers, saved in the folder."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=330, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    )
    core.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaMA with a vocabulary."""
    folder = tmp_path_factory.mktemp("llama")
    fast = vocabulary(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = hf.LlamaConfig(vocab_size=len(fast), bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes)
    model = hf.LlamaForCausalLM(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    model.save_pretrained(folder)
    return folder


@given(text=st.text(max_size=60))
def test_ids_are_those_of_the_reference(folder: Path, text: str) -> None:
    ours, theirs = Pretrained.load(folder), hf.AutoTokenizer.from_pretrained(folder)
    assert ours is not None
    assert ours.encode(text) == theirs(text).input_ids
    assert ours.encode(text, whole=False) == theirs(text, add_special_tokens=False).input_ids
    assert ours.decode(ours.encode(text)) == theirs.decode(theirs(text).input_ids, skip_special_tokens=True)
    assert ours.ends == {theirs.eos_token_id}


@torch.no_grad()
@pytest.mark.parametrize("width", [1, 3])
def test_texts_go_on_as_the_reference_s_do(folder: Path, width: int) -> None:
    ours, theirs = mmworld.load(folder), hf.LlamaForCausalLM.from_pretrained(folder).eval()
    prompts = [ours.tokenizer.encode(t) for t in ("two boys", "the", "the snow", "a dog")]
    made = complete(ours, prompts, Beam(width, 1.0), Stop(20)) if width > 1 else complete(ours, prompts, stop=Stop(20))
    for prompt, got in zip(prompts, made, strict=True):
        told = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, num_beams=width, length_penalty=1.0
        )[0, len(prompt) :]
        assert list(got.ids) == [i for i in told.tolist() if i != 1]
        assert got.text == ours.tokenizer.decode(got.ids).strip()


def test_every_id_that_ends_a_text_ends_it(folder: Path, tmp_path: Path) -> None:
    vocabulary(tmp_path)
    assert Pretrained.load(tmp_path).ends == {1}
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 7}))
    assert Pretrained.load(tmp_path).ends == {7}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert Pretrained.load(tmp_path).ends == {7, 9}
    assert mmworld.load(folder).tokenizer.id("</s>") == 1


def test_what_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    assert Pretrained.load(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a vocabulary"):
        Pretrained.load(tmp_path)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(CheckpointError, match="the limit for a vocabulary"):
        Pretrained.load(tmp_path)
