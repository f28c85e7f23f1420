"""Models that hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmworld.models.zoo.parity.case import LAYERS, NAMES, Case, Pairs, encodes, ids, noise
from mmworld.models.zoo.parity.text import BERT
from mmworld.models.zoo.qwen2_audio import Sound


def _hears(ours: Any, theirs: Any) -> Pairs:
    told = theirs(input_features=noise(2, 30, 8).mT, decoder_input_ids=ids(7).expand(2, 7))
    heard = ours.encode(noise(2, 30, 8))
    yield heard, told.encoder_last_hidden_state
    yield ours(ids(7).expand(2, 7), heard), told.logits


def _writes(ours: Any, theirs: Any) -> Pairs:
    told = theirs(input_values=noise(2, 100), decoder_input_ids=ids(7).expand(2, 7))
    heard = ours.encode(noise(2, 100))
    yield heard, told.encoder_last_hidden_state
    yield ours(ids(7).expand(2, 7), heard), told.logits


def _speaks(what: Tensor) -> Callable[[Any, Any], Pairs]:
    """Frames that go on with those that were said, and all that is said by itself, with what is dropped drawn alike."""

    def compare(ours: Any, theirs: Any) -> Pairs:
        voice, frames = noise(1, 6), noise(2, 9, 8)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            told = theirs(what.expand(2, -1), decoder_input_values=frames, speaker_embeddings=voice.expand(2, -1))
            torch.manual_seed(4)
            said = theirs.generate_speech(what, voice)
        heard = ours.encode(what.expand(2, -1))
        yield heard, told.encoder_last_hidden_state
        yield ours(frames, heard, voice[0], torch.Generator().manual_seed(3)), told.spectrogram
        yield ours.speak(what, voice[0], seed=4), said

    return compare


def _resounds(*longer: bool) -> Callable[[Any, Any], Pairs]:
    """Sounds and texts; of the sounds that are longer than a crop three crops are looked at, too."""

    def compare(ours: Any, theirs: Any) -> Pairs:
        texts = [[0, 7, 9, 2], [0, 5, 2], [0, 11, 8, 6, 4, 2]]
        padded = torch.tensor([[*t, *[1] * (6 - len(t))] for t in texts])
        mel, which = noise(len(longer), 4 if ours.audio.config.enable_fusion else 1, 50, 8), torch.tensor(longer)
        told = theirs(
            input_ids=padded, attention_mask=(padded != 1).long(), input_features=mel, is_longer=which[:, None]
        )
        heard, read = ours.embed_sounds(mel, which), ours.embed_texts(texts)
        yield heard, told.audio_embeds
        yield read, told.text_embeds
        yield ours.compare(heard, read), told.logits_per_audio
        yield read @ heard.T * ours.text_scale.exp(), told.logits_per_text

    return compare


def _sounds(ours: Any, theirs: Any) -> Pairs:
    yield ours(noise(2, 9, 8)), theirs(noise(2, 9, 8))


AUDIO = 49


def asked(sounds: Sequence[Sound]) -> Tensor:
    """A text with places for sounds among words."""
    words = ids(3 * (len(sounds) + 1), len(sounds)).view(-1, 3)
    places = [torch.full(((s.n + 1) // 2 // 2,), AUDIO) for s in sounds]
    return torch.cat([p for row, n in zip(words, [*places, ids(0)[0]], strict=True) for p in (row, n)])[None]


def given(sounds: Sequence[Sound]) -> dict[str, Tensor]:
    """What transformers is given of the same."""
    told = {"input_ids": asked(sounds), "input_features": torch.stack([s.mel.mT for s in sounds])}
    lengths = torch.tensor([s.n for s in sounds])
    return told | {"feature_attention_mask": (torch.arange(len(sounds[0].mel)) < lengths[:, None]).long()}


def _answers(ours: Any, theirs: Any) -> Pairs:
    sounds = [Sound(mel, n) for mel, n in zip(noise(4, 30, 8), (30, 17, 28, 7), strict=True)]
    yield ours(asked(sounds), sounds), theirs(**given(sounds)).logits


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
_SPEECHT5: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 40,
}
_SPEECHT5 |= {"encoder_max_relative_position": 6, "conv_dim": [12, 16], "conv_kernel": [5, 3], "conv_stride": [3, 2]}
_SPEECHT5 |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "num_mel_bins": 8}
_SPEECHT5 |= {"speaker_embedding_dim": 6, "speech_decoder_prenet_units": 12, "speech_decoder_postnet_units": 10}
_SPEECHT5 |= {"eos_token_id": None, "pad_token_id": 1, "decoder_start_token_id": 2}
_HTSAT: dict[str, Any] = {"window_size": 4, "num_mel_bins": 8, "spec_size": 32, "hidden_size": 32, "depths": [2, 2]}
_HTSAT |= {
    "aff_block_r": 2,
    "patch_size": 2,
    "patch_stride": [2, 2],
    "num_attention_heads": [2, 4],
    "patch_embeds_hidden_size": 16,
}
_COMPUTED = "relative_position_index|position_ids|token_type_ids"
_CLAP: dict[str, Any] = {"projection_dim": 12, "text_config": {**BERT, "max_position_embeddings": 14}}
_HIFIGAN: dict[str, Any] = {"model_in_dim": 8, "upsample_initial_channel": 16, "upsample_rates": [4, 2]}
_HIFIGAN |= {"upsample_kernel_sizes": [8, 5], "resblock_kernel_sizes": [3, 5]}
_HIFIGAN |= {"resblock_dilation_sizes": [[1, 3], [1, 2]]}
_QWEN2_AUDIO: dict[str, Any] = {
    "audio_config": {**{n: x for n, x in _WHISPER.items() if "encoder" in n or "d_model" in n}, "num_mel_bins": 8},
    "text_config": {**LAYERS, "model_type": "qwen2", "vocab_size": 50, "intermediate_size": 40, "eos_token_id": None},
    "audio_token_index": AUDIO,
}
_QWEN2_AUDIO["audio_config"] |= {"max_source_positions": 15}
_QWEN2_AUDIO["text_config"] |= {"num_key_value_heads": 2, "pad_token_id": None}
CASES = {
    "clap": Case(
        "ClapConfig",
        "ClapModel",
        _CLAP | {"audio_config": {**_HTSAT, "enable_fusion": True}},
        _resounds(True, False, True),
        _COMPUTED,
    ),
    "clap, one crop": Case(
        "ClapConfig", "ClapModel", _CLAP | {"audio_config": _HTSAT}, _resounds(False, True), _COMPUTED
    ),
    "audio-spectrogram-transformer": Case("ASTConfig", "ASTModel", _AST, _listens),
    "audio-spectrogram-transformer, classes": Case("ASTConfig", "ASTForAudioClassification", _AST | NAMES, _listens),
    "qwen2_audio": Case("Qwen2AudioConfig", "Qwen2AudioForConditionalGeneration", _QWEN2_AUDIO, _answers),
    "whisper": Case("WhisperConfig", "WhisperForConditionalGeneration", _WHISPER, _hears, "proj_out"),
    "hifigan": Case("SpeechT5HifiGanConfig", "SpeechT5HifiGan", _HIFIGAN, _sounds, said={"model_type": "hifigan"}),
    "speecht5, text": Case("SpeechT5Config", "SpeechT5ForSpeechToText", _SPEECHT5, _writes, "masked_spec_embed"),
    "speecht5, speech": Case("SpeechT5Config", "SpeechT5ForTextToSpeech", _SPEECHT5, _speaks(ids(9)), ".pe"),
    "speecht5, voice": Case(
        "SpeechT5Config", "SpeechT5ForSpeechToSpeech", _SPEECHT5, _speaks(noise(1, 60)), "masked_spec_embed"
    ),
    "speecht5_hifigan": Case(
        "SpeechT5HifiGanConfig", "SpeechT5HifiGan", _HIFIGAN | {"normalize_before": False}, _sounds
    ),
}
