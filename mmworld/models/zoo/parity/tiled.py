"""Models that see pictures in tiles, and films."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmworld.models.zoo.parity.case import Case, Pairs, ids, noise
from mmworld.models.zoo.parity.joint import SEEN, TOLD
from mmworld.vision.tiles import Tiled, canvas

IMAGE, VIDEO = 49, 48
CANVASES = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 12]]
SIDE = 12
SIZES = (5, 30), (19, 20), (50, 11), (9, 9)
"""Of pictures, height and width: each on a canvas of its own."""


def tiled(height: int, width: int) -> Tiled:
    """A picture of noise."""
    rows, columns = (n // SIDE for n in canvas((height, width), [(h, w) for h, w in CANVASES]))
    return Tiled(noise(1 + rows * columns, 3, SIDE, SIDE) * height / 20, (height, width))


def whole(height: int, width: int) -> Tiled:
    """One without tiles."""
    return Tiled(tiled(height, width).pixels[:1], (height, width))


def said(seen: Sequence[tuple[int, int]]) -> Tensor:
    """A text [1, T] with words between what is seen: ids that stand for it, and how many times."""
    parts = [ids(3, 0, VIDEO)[0]]
    for i, (place, n) in enumerate(seen):
        parts += [torch.full((n,), place), ids(3, i + 1, VIDEO)[0]]
    return torch.cat(parts)[None]


def given(pictures: Sequence[Tiled], films: Sequence[Tensor] = ()) -> dict[str, Tensor]:
    """What theirs is given for them."""
    out: dict[str, Tensor] = {}
    if pictures:
        most = max(len(p.pixels) for p in pictures)
        padded = [F.pad(p.pixels, (0, 0) * 3 + (0, most - len(p.pixels))) for p in pictures]
        out |= {"pixel_values": torch.stack(padded), "image_sizes": torch.tensor([p.size for p in pictures])}
    return out | ({"pixel_values_videos": torch.stack(list(films))} if films else {})


def shows(ours: Any, shown: Sequence[Any]) -> Tensor:
    """A text with places for what is shown."""
    counts = [next(iter(x for x in ours._seen([s]).items() if x[1])) for s in shown]
    return said([(place, len(tokens[0])) for place, tokens in counts])


def _looks(ours: Any, theirs: Any) -> Pairs:
    pictures = [tiled(*size) for size in SIZES]
    films = [noise(3, 3, SIDE, SIDE), noise(3, 3, SIDE, SIDE).flip(0)] if "video" in ours.takes.senses else []
    text = shows(ours, [*pictures, *films])
    yield ours(text, [*pictures, *films]), theirs(text, **given(pictures, films)).logits


def _looks_and_watches(ours: Any, theirs: Any) -> Pairs:
    yield from _looks(ours, theirs)
    pictures = [whole(*size) for size in SIZES]
    text, several = shows(ours, pictures), torch.tensor([len(pictures)])
    yield ours(text, pictures), theirs(text, **given(pictures), batch_num_images=several).logits


NEXT: dict[str, Any] = {
    "vision_config": {**SEEN, "model_type": "clip_vision_model", "image_size": SIDE},
    "text_config": {**TOLD, "model_type": "mistral"},
    "image_token_index": IMAGE,
    "image_grid_pinpoints": CANVASES,
}
_FILMS: dict[str, Any] = {**NEXT, "text_config": {**TOLD, "model_type": "llama"}, "video_token_index": VIDEO}
_ONE: dict[str, Any] = {
    **_FILMS,
    "vision_config": {**NEXT["vision_config"], "model_type": "siglip_vision_model", "vision_use_head": False},
    "text_config": {**TOLD, "model_type": "qwen2"},
}


def _films(**changes: Any) -> Case:
    return Case("LlavaNextVideoConfig", "LlavaNextVideoForConditionalGeneration", {**_FILMS, **changes}, _looks)


def _one(**changes: Any) -> Case:
    sizes = {**_ONE, **changes}
    return Case("LlavaOnevisionConfig", "LlavaOnevisionForConditionalGeneration", sizes, _looks_and_watches)


CASES = {
    "llava_next": Case("LlavaNextConfig", "LlavaNextForConditionalGeneration", NEXT, _looks),
    "llava_next_video": _films(),
    "llava_next_video, conv": _films(spatial_pool_mode="conv"),
    "llava_next_video, max": _films(spatial_pool_mode="max", vision_config={**NEXT["vision_config"], "patch_size": 2}),
    "llava_onevision": _one(),
    "llava_onevision, shrunk": _one(vision_aspect_ratio="anyres_max_1"),
    "llava_onevision, tied": _one(text_config={**_ONE["text_config"], "tie_word_embeddings": True}),
}
