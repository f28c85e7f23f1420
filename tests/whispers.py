"""A tiny Whisper with random weights, as transformers saves it: vocabulary, special tokens, processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

TEXTS = ["ask not what your country can do for you", "printing, in the only sense with which we are concerned"] * 4
LANGUAGES = ("en", "de", "ja")
PLACES, POSITIONS = 50, 64
"""Of the encoder: a window is a second; of the decoder."""
MARKS = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
MARKS += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
MARKS += [f"<|{i * 0.02:.2f}|>" for i in range(PLACES + 1)]


def vocabulary() -> tokenizers.Tokenizer:
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(TEXTS, trainer)
    core.add_special_tokens(MARKS)
    return core


def settings(core: tokenizers.Tokenizer) -> dict[str, Any]:
    """What a generation_config.json says."""
    i = {mark: core.token_to_id(mark) for mark in MARKS}
    return {
        "decoder_start_token_id": i["<|startoftranscript|>"],
        "eos_token_id": i["<|endoftext|>"],
        "bos_token_id": i["<|endoftext|>"],
        "pad_token_id": i["<|endoftext|>"],
        "lang_to_id": {f"<|{code}|>": i[f"<|{code}|>"] for code in LANGUAGES},
        "task_to_id": {task: i[f"<|{task}|>"] for task in ("translate", "transcribe")},
        "no_timestamps_token_id": i["<|notimestamps|>"],
        "prev_sot_token_id": i["<|startofprev|>"],
        "is_multilingual": True,
        "suppress_tokens": [5, 9, *range(i["<|startoftranscript|>"], i["<|notimestamps|>"])],
        "begin_suppress_tokens": [core.token_to_id("Ġ"), i["<|endoftext|>"]],
        "alignment_heads": [[0, 1], [1, 0], [1, 3]],
        "max_initial_timestamp_index": 10,
        "max_length": POSITIONS,
    }


def whisper(folder: Path, seed: int = 0, said: dict[str, Any] | None = None, **sizes: Any) -> Any:
    """Theirs, saved in the folder; `said` changes what generation_config.json says, None takes it out."""
    core = vocabulary()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    given = settings(core) | (said or {})
    config = transformers.WhisperConfig(
        **{
            "vocab_size": core.get_vocab_size(),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "num_mel_bins": 80,
            "max_source_positions": PLACES,
            "max_target_positions": POSITIONS,
            "decoder_start_token_id": given["decoder_start_token_id"],
            "eos_token_id": given["eos_token_id"],
            "bos_token_id": given["bos_token_id"],
            "pad_token_id": given["pad_token_id"],
            "suppress_tokens": None,
            "begin_suppress_tokens": None,
        }
        | sizes
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = transformers.WhisperForConditionalGeneration(config).eval()
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.15)
    model.generation_config = transformers.GenerationConfig(**{k: v for k, v in given.items() if v is not None})
    model.save_pretrained(folder)
    core.save(str(folder / "tokenizer.json"))
    transformers.WhisperFeatureExtractor(chunk_length=PLACES // 50).save_pretrained(folder)
    return model
