"""Models of pictures and text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.models.zoo.parity.case import LAYERS, Case, Pairs, ends, ids, noise
from mmworld.models.zoo.parity.text import BERT, OPT, T5
from mmworld.models.zoo.parity.vision import EFFICIENTNET, VIT


def _reads_regions(ours: Any, theirs: Any) -> Pairs:
    text, regions = ids(9).expand(2, 9), noise(2, 5, 20)
    shown = {"visual_embeds": regions, "visual_attention_mask": torch.ones(2, 5)}
    told = theirs(text, attention_mask=torch.ones(2, 9), **shown)
    x = ours(text, regions)
    yield from ends(ours, x, told)
    yield ours(text), theirs(text, attention_mask=torch.ones(2, 9)).last_hidden_state


CLIP_TEXTS = ((48, 7, 30, 49), (48, 49), (48, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 49))


def matches(*, masked: bool = False) -> Callable[[Any, Any], Pairs]:
    """Of pictures and texts.

    Args:
        masked: whether theirs is told where a text ends.
    """

    def compare(ours: Any, theirs: Any) -> Pairs:
        padded = torch.tensor([[*t, *[1] * (12 - len(t))] for t in CLIP_TEXTS])
        mask = {"attention_mask": (padded != 1).long()} if masked else {}
        told = theirs(input_ids=padded, pixel_values=noise(2, 3, 16, 16), **mask)
        yield ours.embed(noise(2, 3, 16, 16)), told.image_embeds
        yield ours.embed_texts(CLIP_TEXTS), told.text_embeds
        yield ours(noise(2, 3, 16, 16), CLIP_TEXTS), told.logits_per_image

    return compare


def _matches_films(ours: Any, theirs: Any) -> Pairs:
    films, padded = noise(2, 3, 3, 16, 16), torch.tensor([[*t, *[1] * (12 - len(t))] for t in CLIP_TEXTS])
    told = theirs(input_ids=padded, pixel_values=films)
    yield ours.embed(films), told.video_embeds
    features = theirs.get_text_features(padded).pooler_output
    yield ours.embed_texts(CLIP_TEXTS), F.normalize(features, dim=-1)
    yield ours(films, CLIP_TEXTS), told.logits_per_video


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


def located(n: int, tokens: int) -> tuple[Tensor, Tensor]:
    """A text [1, T] of n words after a picture, and where its tokens stand."""
    text = torch.cat((torch.tensor([[0, 4]]), torch.arange(4, 4 + tokens)[None], ids(n)), dim=1)
    where = torch.zeros_like(text, dtype=torch.bool)
    where[:, 2 : 2 + tokens] = True
    return text, where


def _locates(ours: Any, theirs: Any) -> Pairs:
    text, where = located(9, ours.config.latent_query_num)
    text, where = text.expand(2, -1), where.expand(2, -1)
    told = theirs(noise(2, 3, 8, 8), text, image_embeds_position_mask=where)
    yield ours.see(noise(2, 3, 8, 8)), told.image_embeds
    yield ours(text, noise(2, 3, 8, 8), where), told.logits


_CLIP_TEXT: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
_CLIP_TEXT |= {"intermediate_size": 40, "max_position_embeddings": 12}
_CLIP_TEXT |= {"bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 1}
SEEN: dict[str, Any] = {
    **LAYERS,
    "num_hidden_layers": 3,
    "image_size": 8,
    "patch_size": 4,
}
SEEN |= {"intermediate_size": 48}
TOLD: dict[str, Any] = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
TOLD |= {"intermediate_size": 40, "num_key_value_heads": 2, "eos_token_id": None, "pad_token_id": None}
_LLAVA: dict[str, Any] = {
    "vision_config": {**SEEN, "model_type": "clip_vision_model"},
    "text_config": {**TOLD, "model_type": "llama"},
    "image_token_index": 49,
}
_OTHER: dict[str, Any] = {
    "vision_config": {**SEEN, "model_type": "siglip_vision_model"},
    "text_config": {**TOLD, "model_type": "qwen2"},
    "image_token_index": 49,
    "vision_feature_select_strategy": "full",
}
_BLIP: dict[str, Any] = {
    "vision_config": SEEN,
    "text_config": {**BERT, "hidden_size": 24, "encoder_hidden_size": 32, "eos_token_id": 2, "bos_token_id": 1},
}
_QFORMER: dict[str, Any] = {**BERT, "num_hidden_layers": 3, "hidden_size": 24, "encoder_hidden_size": 32}
_BLIP2: dict[str, Any] = {"vision_config": SEEN, "qformer_config": _QFORMER, "num_query_tokens": 3}
_BLIP2 |= {"image_token_index": 49}
_KOSMOS: dict[str, Any] = {"vocab_size": 50, "embed_dim": 24, "layers": 2, "attention_heads": 4, "ffn_dim": 40}
_KOSMOS2: dict[str, Any] = {"text_config": _KOSMOS, "vision_config": SEEN, "latent_query_num": 3}
_ALIGN_TEXT: dict[str, Any] = {**BERT, "vocab_size": 50, "max_position_embeddings": 12}
LATE = {
    "align": Case(
        "AlignConfig",
        "AlignModel",
        {"vision_config": EFFICIENTNET, "text_config": _ALIGN_TEXT, "projection_dim": 16},
        matches(masked=True),
        "text_model.pooler",
    ),
    "clip": Case(
        "CLIPConfig",
        "CLIPModel",
        {"vision_config": VIT, "text_config": _CLIP_TEXT, "projection_dim": 20},
        matches(),
    ),
    "siglip": Case(
        "SiglipConfig",
        "SiglipModel",
        {"vision_config": VIT, "text_config": {**_CLIP_TEXT, "projection_size": 32}},
        matches(),
    ),
}
_XCLIP: dict[str, Any] = {"num_frames": 3, "mit_hidden_size": 24, "mit_intermediate_size": 40}
_XCLIP |= {"mit_num_hidden_layers": 2, "mit_num_attention_heads": 4}
LATE_FILMS = {
    "xclip": Case(
        "XCLIPConfig",
        "XCLIPModel",
        {"vision_config": VIT | _XCLIP, "text_config": _CLIP_TEXT, "projection_dim": 24},
        _matches_films,
    )
}
EARLY = {
    "visual_bert": Case("VisualBertConfig", "VisualBertModel", {**BERT, "visual_embedding_dim": 20}, _reads_regions)
}
PROJECTED = {
    "llava": Case("LlavaConfig", "LlavaForConditionalGeneration", _LLAVA, _answers),
    "llava, last layer": Case(
        "LlavaConfig", "LlavaForConditionalGeneration", {**_LLAVA, "vision_feature_layer": -1}, _answers
    ),
    "llava, siglip and qwen2": Case("LlavaConfig", "LlavaForConditionalGeneration", _OTHER, _answers),
}
_BLIP_ASKED: dict[str, Any] = {**_BLIP, "text_config": {**_BLIP["text_config"], "hidden_size": 32}}
_BLIP_ITM: dict[str, Any] = {**_BLIP, "image_text_hidden_size": 20}


def _questions(ours: Any, theirs: Any) -> Pairs:
    pictures, asked, answer = noise(2, 3, 8, 8), ids(6).expand(2, 6), ids(5, 1).expand(2, 5)
    seen = ours.see(pictures)
    told = theirs.vision_model(pictures).last_hidden_state
    heard = theirs.text_encoder(asked, encoder_hidden_states=told, return_dict=True).last_hidden_state
    yield ours.ask(asked, seen), heard
    want = theirs.text_decoder(answer, encoder_hidden_states=heard, return_dict=True)
    yield ours(answer, heard), want.logits


def _fits(ours: Any, theirs: Any) -> Pairs:
    pictures, texts = noise(2, 3, 8, 8), (ids(6)[0].tolist(), ids(6, 1)[0].tolist())
    rows = torch.tensor(texts)
    itm = theirs(input_ids=rows, pixel_values=pictures, use_itm_head=True).itm_score
    yield ours(pictures, texts).diagonal(), itm[:, 1] - itm[:, 0]
    cosines = theirs(input_ids=rows, pixel_values=pictures, use_itm_head=False).itm_score
    yield ours.compare(ours.embed(pictures), ours.embed_texts(texts)), cosines


CROSSED = {
    "blip": Case("BlipConfig", "BlipForConditionalGeneration", _BLIP, _captions),
    "blip, questions": Case("BlipConfig", "BlipForQuestionAnswering", _BLIP_ASKED, _questions),
    "blip, matching": Case("BlipConfig", "BlipForImageTextRetrieval", _BLIP_ITM, _fits),
}


def _instructed(ours: Any, theirs: Any) -> Pairs:
    text, pictures, answer, told = asked(2, 3), noise(2, 3, 8, 8), ids(5), ids(6).expand(2, 6)
    shown = {"pixel_values": pictures, "qformer_input_ids": told, "input_ids": text}
    if theirs.config.text_config.model_type == "t5":
        yield ours(text, pictures, told, answer=answer), theirs(**shown, decoder_input_ids=answer).logits
    else:
        yield ours(text, pictures, told), theirs(**shown).logits


def _instructed_films(ours: Any, theirs: Any) -> Pairs:
    text, films, told = asked(2, 6), noise(2, 2, 3, 8, 8), ids(12).view(2, 6)
    shown = {"pixel_values": films, "qformer_input_ids": told, "input_ids": text}
    yield ours(text, films, told), theirs(**shown).logits


_INSTRUCT: dict[str, Any] = {**_BLIP2, "qformer_config": {**_QFORMER, "max_position_embeddings": 12}}


def _instruct(text: dict[str, Any]) -> Case:
    sizes = {**_INSTRUCT, "text_config": {**text, "vocab_size": 50}}
    return Case("InstructBlipConfig", "InstructBlipForConditionalGeneration", sizes, _instructed)


INSTRUCTED = {
    "instructblip": _instruct({**TOLD, "model_type": "llama"}),
    "instructblip, opt": _instruct({**OPT, "model_type": "opt"}),
    "instructblip, t5": _instruct({**T5, "model_type": "t5"}),
    "instructblipvideo": Case(
        "InstructBlipVideoConfig",
        "InstructBlipVideoForConditionalGeneration",
        {
            **_INSTRUCT,
            "text_config": {**TOLD, "model_type": "llama"},
            "image_token_index": None,
            "video_token_index": 49,
        },
        _instructed_films,
    ),
}


def _ask(text: dict[str, Any]) -> Case:
    sizes = {**_BLIP2, "text_config": {**text, "vocab_size": 50}}
    return Case("Blip2Config", "Blip2ForConditionalGeneration", sizes, _asks)


ASKED = {
    "blip-2, opt": _ask({**OPT, "model_type": "opt"}),
    "blip-2, llama": _ask({**TOLD, "model_type": "llama"}),
    "blip-2, t5": _ask({**T5, "model_type": "t5"}),
}

_BLIP2_ITM: dict[str, Any] = {**_BLIP2, "image_token_index": None, "image_text_hidden_size": 20}
_BLIP2_ITM["qformer_config"] = {**_QFORMER, "max_position_embeddings": 12, "use_qformer_text_input": True}


def _judges(ours: Any, theirs: Any) -> Pairs:
    pictures, texts = noise(2, 3, 8, 8), (ids(6)[0].tolist(), ids(6, 1)[0].tolist())
    given = {"input_ids": torch.tensor(texts), "attention_mask": torch.ones(2, 6), "pixel_values": pictures}
    itm = theirs(**given, use_image_text_matching_head=True).logits_per_image
    yield ours(pictures, texts).diagonal(), itm[:, 1] - itm[:, 0]
    told = theirs(**given)
    seen, read = ours.embed(pictures), ours.embed_texts(texts)
    yield seen, told.image_embeds
    yield read, told.text_embeds
    yield ours.compare(seen, read), told.logits_per_image


JUDGED = {"blip-2, matching": Case("Blip2Config", "Blip2ForImageTextRetrieval", _BLIP2_ITM, _judges)}
LOCATED = {
    "kosmos-2": Case("Kosmos2Config", "Kosmos2ForConditionalGeneration", _KOSMOS2, _locates),
    "kosmos-2, unscaled": Case(
        "Kosmos2Config",
        "Kosmos2ForConditionalGeneration",
        {**_KOSMOS2, "text_config": {**_KOSMOS, "scale_embedding": False, "activation_function": "relu"}},
        _locates,
    ),
}

CASES = LATE | LATE_FILMS | EARLY | PROJECTED | CROSSED | ASKED | INSTRUCTED | JUDGED | LOCATED
