"""How far each system is from the library that its checkpoints come from, on tiny models with random weights.

The weights go the way of a real checkpoint: transformers saves shards, `mmworld.load` reads them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import UsageError
from mmworld.models.zoo import load

LIMIT = 2e-5
"""Largest difference of logits or embeddings, relative to the largest of them."""
Pairs = Iterator[tuple[Tensor, Tensor]]
"""What ours gives and what theirs gives."""


@dataclass(frozen=True)
class Case:
    """A tiny model of transformers.

    Attributes:
        config, model: names of its classes.
        sizes: what the config is given.
        compare: runs both on the same input.
        unread: a part of the names of what ours leaves out on purpose.
    """

    config: str
    model: str
    sizes: dict[str, Any]
    compare: Callable[[Any, Any], Pairs]
    unread: str = "mask_token"

    def build(self) -> Any:
        """Theirs, its weights, norms and biases too such that no part is without effect.

        Raises:
            UsageError: transformers is not installed.
        """
        try:
            import transformers
        except ImportError:
            raise UsageError("comparing needs transformers", hint="pip install 'mmworld[dev]'") from None
        transformers.utils.logging.disable_progress_bar()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(transformers, self.model)(getattr(transformers, self.config)(**self.sizes)).eval()
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.2)
            for name, x in model.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    x.add_(torch.rand_like(x))
        return model


def both(case: Case, folder: Path) -> tuple[Any, Any]:
    """Ours, from the shards that theirs were saved in, and theirs."""
    theirs = case.build()
    theirs.save_pretrained(folder, max_shard_size="10KB")
    return load(folder), theirs


@torch.no_grad()
def error(case: Case) -> float:
    """The largest difference between ours and theirs, relative to the largest number of theirs."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = list(case.compare(*both(case, Path(folder))))
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def ids(n: int, seed: int = 0, most: int = 40) -> Tensor:
    """A text [1, n] of ids from 3 on."""
    return torch.randint(3, most, (1, n), generator=torch.Generator().manual_seed(seed))


def noise(*shape: int) -> Tensor:
    """Pictures or frames."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _writes(ours: Any, theirs: Any) -> Pairs:
    yield ours(ids(9)), theirs(ids(9)).logits


def _reads(ours: Any, theirs: Any) -> Pairs:
    told = theirs(ids(9))
    x = ours(ids(9))
    if ours.architecture == "BertModel":
        yield x, told.last_hidden_state
        yield ours.pool(x), told.pooler_output
    else:
        yield ours.logits(x), told.logits if "logits" in told else told.prediction_logits


def _rewrites(ours: Any, theirs: Any) -> Pairs:
    question, answer = ids(150), ids(7, 1)  # longer than the table of distances
    yield ours(answer, ours.encode(question)), theirs(input_ids=question, decoder_input_ids=answer).logits


def _encodes(*shape: int) -> Callable[[Any, Any], Pairs]:
    """Of pictures, films or spectrograms of a shape."""

    def compare(ours: Any, theirs: Any) -> Pairs:
        yield from _ends(ours, ours(noise(*shape)), theirs(noise(*shape)))

    return compare


_sees, _watches, _listens = _encodes(2, 3, 16, 16), _encodes(2, 4, 3, 16, 16), _encodes(2, 24, 16)


def _ends(ours: Any, x: Tensor, told: Any) -> Pairs:
    """Tokens and what they are pooled to, as far as theirs says."""
    if told.get("last_hidden_state") is not None:
        yield x, told.last_hidden_state
    for name in ("pooler_output", "image_embeds", "logits"):
        if told.get(name) is not None:
            yield ours.pool(x), told[name].flatten(1)


def _reads_regions(ours: Any, theirs: Any) -> Pairs:
    text, regions = ids(9).expand(2, 9), noise(2, 5, 20)
    shown = {"visual_embeds": regions, "visual_attention_mask": torch.ones(2, 5)}
    told = theirs(text, attention_mask=torch.ones(2, 9), **shown)
    x = ours(text, regions)
    yield from _ends(ours, x, told)
    yield ours(text), theirs(text, attention_mask=torch.ones(2, 9)).last_hidden_state


CLIP_TEXTS = ((48, 7, 30, 49), (48, 49), (48, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 49))


def _matches(ours: Any, theirs: Any) -> Pairs:
    padded = torch.tensor([[*t, *[1] * (12 - len(t))] for t in CLIP_TEXTS])
    told = theirs(input_ids=padded, pixel_values=noise(2, 3, 16, 16))
    yield ours.embed_pictures(noise(2, 3, 16, 16)), told.image_embeds
    yield ours.embed_texts(CLIP_TEXTS), told.text_embeds
    yield ours(noise(2, 3, 16, 16), CLIP_TEXTS), told.logits_per_image


def asked(pictures: int, tokens: int, place: int = 49) -> Tensor:
    """A text with places for so many pictures of so many tokens among words."""
    words = ids(3 * (pictures + 1), pictures, place).view(-1, 3)
    parts = [p for row in words for p in (row, torch.full((tokens,), place))][:-1]
    return torch.cat(parts)[None]


def _answers(ours: Any, theirs: Any) -> Pairs:
    text = asked(2, 4)
    yield ours(text, noise(2, 3, 8, 8)), theirs(text, pixel_values=noise(2, 3, 8, 8)).logits


def _captions(ours: Any, theirs: Any) -> Pairs:
    pictures, text = noise(2, 3, 8, 8), ids(9).expand(2, 9)
    told = theirs(pixel_values=pictures, input_ids=text)
    seen = ours.see(pictures)
    yield seen, told.last_hidden_state
    yield ours(text, seen), told.logits


def _asks(ours: Any, theirs: Any) -> Pairs:
    text, pictures, answer = asked(2, 3), noise(2, 3, 8, 8), ids(5)
    if theirs.config.text_config.model_type == "t5":
        told = theirs(pixel_values=pictures, input_ids=text, decoder_input_ids=answer)
        yield ours(text, pictures, answer=answer), told.logits
    else:
        yield ours(text, pictures), theirs(pixel_values=pictures, input_ids=text).logits


def _hears(ours: Any, theirs: Any) -> Pairs:
    told = theirs(input_features=noise(2, 30, 8).mT, decoder_input_ids=ids(7).expand(2, 7))
    heard = ours.encode(noise(2, 30, 8))
    yield heard, told.encoder_last_hidden_state
    yield ours(ids(7).expand(2, 7), heard), told.logits


_LLAMA: dict[str, Any] = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
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
_BERT: dict[str, Any] = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_BERT |= {"intermediate_size": 48}
_T5: dict[str, Any] = {
    "vocab_size": 40,
    "decoder_start_token_id": 0,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
}
_T5 |= {"num_heads": 4, "eos_token_id": None}
_GATED: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "tie_word_embeddings": False}
_DINO: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}
_VIT: dict[str, Any] = {**_DINO, "intermediate_size": 48}
_FILM: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_AST: dict[str, Any] = {**_FILM, "patch_size": 4, "num_mel_bins": 16, "max_length": 24}
_AST |= {"frequency_stride": 2, "time_stride": 3}
_FILM |= {"image_size": 16, "num_frames": 4}
_RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2]}
_NAMES: dict[str, Any] = {"id2label": {0: "cat", 1: "dog", 2: "owl"}}
_CLIP_TEXT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
_CLIP_TEXT |= {"intermediate_size": 40, "max_position_embeddings": 12}
_CLIP_TEXT |= {"bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 1}
_SEEN: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
_SEEN |= {"intermediate_size": 48}
_TOLD: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
_TOLD |= {"intermediate_size": 40, "num_key_value_heads": 2, "eos_token_id": None, "pad_token_id": None}
_LLAVA: dict[str, Any] = {
    "vision_config": {**_SEEN, "model_type": "clip_vision_model"},
    "text_config": {**_TOLD, "model_type": "llama"},
    "image_token_index": 49,
}
_OTHER: dict[str, Any] = {
    "vision_config": {**_SEEN, "model_type": "siglip_vision_model"},
    "text_config": {**_TOLD, "model_type": "qwen2"},
    "image_token_index": 49,
    "vision_feature_select_strategy": "full",
}
_BLIP: dict[str, Any] = {
    "vision_config": _SEEN,
    "text_config": {**_BERT, "hidden_size": 24, "encoder_hidden_size": 32, "eos_token_id": 2, "bos_token_id": 1},
}
_OPT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
_OPT |= {"ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16, "eos_token_id": None}
_QFORMER: dict[str, Any] = {**_BERT, "num_hidden_layers": 3, "hidden_size": 24, "encoder_hidden_size": 32}
_BLIP2: dict[str, Any] = {"vision_config": _SEEN, "qformer_config": _QFORMER, "num_query_tokens": 3}
_BLIP2 |= {"image_token_index": 49}
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
    "opt": Case("OPTConfig", "OPTForCausalLM", _OPT, _writes),
}
ENCODERS = {
    "bert": Case("BertConfig", "BertModel", _BERT, _reads),
    "bert, masked": Case("BertConfig", "BertForMaskedLM", _BERT, _reads),
    "bert, both heads": Case("BertConfig", "BertForPreTraining", _BERT, _reads, "seq_relationship"),
}
REWRITERS = {
    "t5": Case("T5Config", "T5ForConditionalGeneration", _T5, _rewrites),
    "t5, 1.1": Case("T5Config", "T5ForConditionalGeneration", {**_T5, **_GATED}, _rewrites),
}
PICTURES = {
    "vit": Case("ViTConfig", "ViTModel", _VIT, _sees),
    "vit, classes": Case("ViTConfig", "ViTForImageClassification", _VIT | _NAMES, _sees),
    "clip_vision_model": Case("CLIPVisionConfig", "CLIPVisionModel", _VIT, _sees),
    "clip_vision_model, projected": Case(
        "CLIPVisionConfig", "CLIPVisionModelWithProjection", {**_VIT, "projection_dim": 24}, _sees
    ),
    "siglip_vision_model": Case("SiglipVisionConfig", "SiglipVisionModel", _VIT, _sees),
    "dinov2": Case("Dinov2Config", "Dinov2Model", _DINO, _sees),
    "dinov2, gated": Case("Dinov2Config", "Dinov2Model", {**_DINO, "use_swiglu_ffn": True}, _sees),
    "dinov2_with_registers": Case("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", _DINO, _sees),
    "resnet": Case("ResNetConfig", "ResNetModel", _RESNET, _sees),
    "resnet, basic": Case("ResNetConfig", "ResNetModel", {**_RESNET, "layer_type": "basic"}, _sees),
    "resnet, early": Case("ResNetConfig", "ResNetModel", {**_RESNET, "downsample_in_bottleneck": True}, _sees),
    "resnet, classes": Case("ResNetConfig", "ResNetForImageClassification", _RESNET | _NAMES, _sees),
}
LATE = {
    "clip": Case(
        "CLIPConfig",
        "CLIPModel",
        {"vision_config": _VIT, "text_config": _CLIP_TEXT, "projection_dim": 20},
        _matches,
    ),
    "siglip": Case(
        "SiglipConfig",
        "SiglipModel",
        {"vision_config": _VIT, "text_config": {**_CLIP_TEXT, "projection_size": 32}},
        _matches,
    ),
}
PROJECTED = {
    "llava": Case("LlavaConfig", "LlavaForConditionalGeneration", _LLAVA, _answers),
    "llava, last layer": Case(
        "LlavaConfig", "LlavaForConditionalGeneration", {**_LLAVA, "vision_feature_layer": -1}, _answers
    ),
    "llava, siglip and qwen2": Case("LlavaConfig", "LlavaForConditionalGeneration", _OTHER, _answers),
}
CROSSED = {"blip": Case("BlipConfig", "BlipForConditionalGeneration", _BLIP, _captions)}
ASKED = {
    "blip-2, opt": Case(
        "Blip2Config",
        "Blip2ForConditionalGeneration",
        {**_BLIP2, "text_config": {**_OPT, "model_type": "opt"}},
        _asks,
    ),
    "blip-2, t5": Case(
        "Blip2Config",
        "Blip2ForConditionalGeneration",
        {**_BLIP2, "text_config": {**_T5, "model_type": "t5", "vocab_size": 50}},
        _asks,
    ),
}
FILMS = {
    "vivit": Case("VivitConfig", "VivitModel", {**_FILM, "tubelet_size": [2, 4, 4]}, _watches),
    "vivit, classes": Case(
        "VivitConfig", "VivitForVideoClassification", {**_FILM, "tubelet_size": [2, 4, 4], **_NAMES}, _watches
    ),
    "videomae": Case("VideoMAEConfig", "VideoMAEModel", {**_FILM, "patch_size": 4}, _watches),
    "videomae, first token": Case(
        "VideoMAEConfig", "VideoMAEModel", {**_FILM, "patch_size": 4, "use_mean_pooling": False}, _watches
    ),
    "videomae, classes": Case(
        "VideoMAEConfig", "VideoMAEForVideoClassification", {**_FILM, "patch_size": 4, **_NAMES}, _watches
    ),
}
EARLY = {
    "visual_bert": Case("VisualBertConfig", "VisualBertModel", {**_BERT, "visual_embedding_dim": 20}, _reads_regions)
}
SOUNDS = {
    "audio-spectrogram-transformer": Case("ASTConfig", "ASTModel", _AST, _listens),
    "audio-spectrogram-transformer, classes": Case("ASTConfig", "ASTForAudioClassification", _AST | _NAMES, _listens),
    "whisper": Case("WhisperConfig", "WhisperForConditionalGeneration", _WHISPER, _hears, "proj_out"),
}
CASES = DECODERS | ENCODERS | REWRITERS | PICTURES | LATE | PROJECTED | CROSSED | ASKED | FILMS | EARLY | SOUNDS
"""By model type, and what is particular after a comma."""


def errors(model_type: str) -> dict[str, float]:
    """The error of each case of a model type."""
    return {name: error(case) for name, case in CASES.items() if name.split(",")[0] == model_type}
