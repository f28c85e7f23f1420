"""Models of text alone."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import LAYERS, Case, Pairs, ids


def _writes(ours: Any, theirs: Any) -> Pairs:
    yield ours(ids(9)), theirs(ids(9)).logits


def _reads(ours: Any, theirs: Any) -> Pairs:
    told = theirs(ids(9))
    x = ours(ids(9))
    if ours.architecture == "BertModel":
        yield x, told.last_hidden_state
        yield ours.pool(x), told.pooler_output
    else:
        if ours.architecture == "BertForPreTraining":
            yield ours.pool(x), theirs.bert(ids(9)).pooler_output
        yield ours.logits(x), told.logits if "logits" in told else told.prediction_logits


def _rewrites(ours: Any, theirs: Any) -> Pairs:
    question, answer = ids(150), ids(7, 1)  # longer than the table of distances
    yield ours(answer, ours.encode(question)), theirs(input_ids=question, decoder_input_ids=answer).logits


_LLAMA: dict[str, Any] = {"vocab_size": 40, **LAYERS}
_LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": None, "eos_token_id": None}
_PRESSED: dict[str, Any] = {"rope_theta": 10_000.0, "rope_type": "linear", "factor": 4.0}
_LLAMA3: dict[str, Any] = {
    "rope_theta": 10_000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 16,
}
_LLAMA3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_GPT2: dict[str, Any] = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "eos_token_id": None,
}
BERT: dict[str, Any] = {"vocab_size": 40, **LAYERS}
BERT |= {"intermediate_size": 48}
OPT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
OPT |= {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "eos_token_id": None}
T5: dict[str, Any] = {
    "vocab_size": 40,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
}
T5 |= {"num_heads": 4, "eos_token_id": None}
_GATED: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "tie_word_embeddings": False}


def _llama(kind: str, **changes: Any) -> Case:
    return Case(f"{kind}Config", f"{kind}ForCausalLM", {**_LLAMA, **changes}, _writes)


DECODERS = {
    "llama": _llama("Llama"),
    "llama, tied": _llama("Llama", tie_word_embeddings=True),
    "llama, wide heads": _llama("Llama", head_dim=12),
    "llama, 3.1": _llama("Llama", rope_parameters=_LLAMA3),
    "llama, pressed": _llama("Llama", rope_parameters=_PRESSED),
    "mistral": _llama("Mistral", sliding_window=4),
    "qwen2": _llama("Qwen2"),
    "qwen3": _llama("Qwen3", head_dim=16),
    "gpt2": Case("GPT2Config", "GPT2LMHeadModel", _GPT2, _writes),
    "opt": Case("OPTConfig", "OPTForCausalLM", OPT, _writes),
}
ENCODERS = {
    "bert": Case("BertConfig", "BertModel", BERT, _reads),
    "bert, masked": Case("BertConfig", "BertForMaskedLM", BERT, _reads),
    "bert, both heads": Case("BertConfig", "BertForPreTraining", BERT, _reads, "seq_relationship"),
}
REWRITERS = {
    "t5": Case("T5Config", "T5ForConditionalGeneration", T5, _rewrites),
    "t5, 1.1": Case("T5Config", "T5ForConditionalGeneration", {**T5, **_GATED}, _rewrites),
}

CASES = DECODERS | ENCODERS | REWRITERS
