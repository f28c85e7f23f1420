"""Text models from checkpoint folders that transformers wrote give its numbers, and are read back by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import Case, both, check, check_saved
from torch import Tensor

from mmworld.nn.state import KVState

LENGTHS = (7, 1, 5)

LLAMA = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": None, "eos_token_id": None}
GPT2 = {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "eos_token_id": None}
BERT = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
T5 = {
    "vocab_size": 40,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "eos_token_id": None,
}
GATED = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "tie_word_embeddings": False}
PRESSED = {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_theta": 10_000.0, "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}
LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


DECODERS = {
    "llama": Case("Llama", "LlamaForCausalLM", LLAMA),
    "llama, tied": Case("Llama", "LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "llama, wide heads": Case("Llama", "LlamaForCausalLM", {**LLAMA, "head_dim": 12}),
    "llama 3.1": Case("Llama", "LlamaForCausalLM", {**LLAMA, "rope_parameters": LLAMA3}),
    "llama, pressed": Case("Llama", "LlamaForCausalLM", {**LLAMA, "rope_parameters": PRESSED}),
    "mistral": Case("Mistral", "MistralForCausalLM", {**LLAMA, "sliding_window": 4}),
    "qwen2": Case("Qwen2", "Qwen2ForCausalLM", LLAMA),
    "qwen3": Case("Qwen3", "Qwen3ForCausalLM", {**LLAMA, "head_dim": 16}),
    "gpt2": Case("GPT2", "GPT2LMHeadModel", GPT2),
}
ENCODERS = {
    name: Case("Bert", name, BERT, unread="seq_relationship")
    for name in ("BertModel", "BertForMaskedLM", "BertForPreTraining")
}
BOTH = {
    "t5": Case("T5", "T5ForConditionalGeneration", T5),
    "t5 1.1": Case("T5", "T5ForConditionalGeneration", {**T5, **GATED}),
}
ALL = DECODERS | ENCODERS | BOTH


def ids(n: int, seed: int = 0) -> Tensor:
    return torch.randint(3, 40, (1, n), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoder_says_what_the_reference_says(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    texts = [ids(n, n) for n in LENGTHS]
    expected = [theirs(t).logits for t in texts]
    packed = ours(torch.cat(texts, dim=1), lengths=LENGTHS).split(LENGTHS, dim=1)
    for got, want in zip(packed, expected, strict=True):
        check(got, want)
    state = ours.init_state()
    check(torch.cat([ours(part, state) for part in texts[0].split([3, 1, 3], dim=1)], dim=1), expected[0])


@torch.no_grad()
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoder_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    told = theirs.generate(ids(5), max_new_tokens=32, do_sample=False, pad_token_id=0)[0, 5:]
    state, logits = ours.init_state(), None
    logits, said = ours(ids(5), state), []
    while len(said) < 32:
        said.append(int(logits[0, -1].argmax()))
        logits = ours(torch.tensor([[said[-1]]]), state)
    assert said == told.tolist()


@torch.no_grad()
@pytest.mark.parametrize("case", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_sees_what_the_reference_sees(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    base = theirs if case.head == "BertModel" else theirs.bert
    texts = [ids(n, n) for n in LENGTHS]
    types = [(t > 20).long() for t in texts]
    packed = ours(torch.cat(texts, dim=1), torch.cat(types, dim=1), LENGTHS).split(LENGTHS, dim=1)
    for text, kind, got in zip(texts, types, packed, strict=True):
        told = base(text, token_type_ids=kind)
        check(got, told.last_hidden_state)
        if ours.pooler is not None:
            check(ours.pool(got), told.pooler_output)
        if ours.head is not None:
            whole = theirs(text, token_type_ids=kind)
            check(ours.logits(got), whole.logits if "logits" in whole else whole.prediction_logits)
    missing = ours.pool if ours.pooler is None else ours.logits if ours.head is None else None
    if missing is not None:
        with pytest.raises(ValueError, match=rf"{case.head} has no"):
            missing(packed[0])


@torch.no_grad()
@pytest.mark.parametrize("case", BOTH.values(), ids=BOTH)
def test_an_encoder_and_decoder_answer_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    asked = (150, 9, 4)  # the first is longer than the table of distances
    questions, answers = [ids(n) for n in asked], [ids(n, 1) for n in LENGTHS]
    seen = ours.encode(torch.cat(questions, dim=1), asked)
    packed = ours(torch.cat(answers, dim=1), seen, None, LENGTHS, asked).split(LENGTHS, dim=1)
    for question, answer, got in zip(questions, answers, packed, strict=True):
        check(got, theirs(input_ids=question, decoder_input_ids=answer).logits)


@torch.no_grad()
@pytest.mark.parametrize("case", BOTH.values(), ids=BOTH)
def test_an_answer_goes_on_as_the_reference_s_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    question = ids(9)
    told = theirs.generate(question, max_new_tokens=32, do_sample=False)[0, 1:]
    state, said = KVState(), []
    logits = ours(torch.tensor([[ours.config.decoder_start_token_id]]), ours.encode(question), state)
    while len(said) < 32:
        said.append(int(logits[0, -1].argmax()))
        logits = ours(torch.tensor([[said[-1]]]), state=state)
    assert said == told.tolist()


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_what_is_saved_the_reference_reads_whole(case: Case, tmp_path: Path) -> None:
    check_saved(case, tmp_path)
