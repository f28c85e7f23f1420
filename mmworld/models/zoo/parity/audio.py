"""Models that hear."""

from __future__ import annotations

from typing import Any

from mmworld.models.zoo.parity.case import LAYERS, NAMES, Case, Pairs, encodes, ids, noise


def _hears(ours: Any, theirs: Any) -> Pairs:
    told = theirs(input_features=noise(2, 30, 8).mT, decoder_input_ids=ids(7).expand(2, 7))
    heard = ours.encode(noise(2, 30, 8))
    yield heard, told.encoder_last_hidden_state
    yield ours(ids(7).expand(2, 7), heard), told.logits


_listens = encodes(2, 24, 16)
_AST: dict[str, Any] = {**LAYERS, "intermediate_size": 48, "patch_size": 4, "num_mel_bins": 16, "max_length": 24}
_AST |= {"frequency_stride": 2, "time_stride": 3}
_WHISPER: dict[str, Any] = {
    "vocab_size": 60,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
}
_WHISPER |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "num_mel_bins": 8}
_WHISPER |= {"max_source_positions": 15, "max_target_positions": 40, "pad_token_id": 0, "bos_token_id": 1}
_WHISPER |= {"eos_token_id": None, "decoder_start_token_id": 3, "begin_suppress_tokens": None, "suppress_tokens": None}
CASES = {
    "audio-spectrogram-transformer": Case("ASTConfig", "ASTModel", _AST, _listens),
    "audio-spectrogram-transformer, classes": Case("ASTConfig", "ASTForAudioClassification", _AST | NAMES, _listens),
    "whisper": Case("WhisperConfig", "WhisperForConditionalGeneration", _WHISPER, _hears, "proj_out"),
}
