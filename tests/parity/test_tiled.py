"""Language models that see pictures in tiles, and films: packed, word by word, in conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from checkpoints import saved, sized, vocabulary
from hypothesis import given as drawn
from hypothesis import strategies as st

import mmworld
from mmworld.errors import ConfigError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.message import Message
from mmworld.models.zoo.llava_next import LLaVANext
from mmworld.models.zoo.llava_onevision import LLaVAOneVision
from mmworld.models.zoo.parity.case import Case, both, noise
from mmworld.models.zoo.parity.tiled import CASES, NEXT, SIDE, given, shows, tiled
from mmworld.types import Chunk
from mmworld.vision.tiles import Tiled, canvas

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")


def things(ours: Any) -> tuple[list[Tiled], list[torch.Tensor]]:
    films = [noise(2, 3, SIDE, SIDE)] if "video" in ours.takes.senses else []
    return [tiled(19, 20), tiled(5, 30)], films


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_reads_texts_with_pictures_packed(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    pictures, films = things(ours)
    parts: list[tuple[list[Tiled], list[torch.Tensor]]] = [(pictures[:1], []), ([], films), (pictures[1:], films)]
    texts = [shows(ours, [*seen, *watched]) for seen, watched in parts]
    lengths = tuple(t.shape[1] for t in texts)
    shown = [x for seen, watched in parts for x in (*seen, *watched)]
    packed = ours(torch.cat(texts, dim=1), shown, lengths=lengths).split(lengths, dim=1)
    for text, part, got in zip(texts, parts, packed, strict=True):
        check(got, theirs(text, **given(*part)).logits)


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    pictures, films = things(ours)
    text = shows(ours, [*pictures, *films])
    made = theirs.generate(text, **given(pictures, films), max_new_tokens=32, do_sample=False, pad_token_id=0)
    state = ours.init_state()
    logits = ours(text, [*pictures, *films], state)[:, -1]
    assert goes_on(ours, logits, state) == made[0, text.shape[1] :].tolist()


def large(kind: str, side: int, canvases: Any, **changes: Any) -> dict[str, Any]:
    """What config.json says of a tiny model with the canvases and patches of the real ones."""
    sizes = CASES[kind].sizes
    vision = {**sizes["vision_config"], "image_size": side, "patch_size": 14}
    return {**sizes, "model_type": kind, "vision_config": vision, "image_grid_pinpoints": canvases, **changes}


def words() -> Any:
    import tokenizers

    core = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<image>": 0, "<video>": 1}, "<image>"))
    return hf.PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<image>")


PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
LARGE = large("llava_next", 336, PINPOINTS)


def count(ours: LLaVANext, height: int, width: int) -> int:
    """Tokens of a picture."""
    side = ours.vision.config.image_size
    rows, columns = (n // side for n in canvas((height, width), ours.config.image_grid_pinpoints))
    pixels = torch.empty(1 + rows * columns, 3, side, side, device="meta")
    return len(ours.see([Tiled(pixels, (height, width))])[0])


@drawn(height=st.integers(1, 2500), width=st.integers(1, 2500))
def test_a_picture_of_any_size_has_as_many_tokens_as_the_reference_makes_room_for(height: int, width: int) -> None:
    with torch.device("meta"):
        ours = LLaVANext(LARGE)
    prepare = hf.LlavaNextImageProcessorPil(size={"shortest_edge": 336}, image_grid_pinpoints=PINPOINTS)
    theirs = hf.LlavaNextProcessor(prepare, words(), 14, "default", num_additional_image_tokens=1)
    assert count(ours, height, width) == theirs._get_num_multimodal_tokens([(height, width)])["num_image_tokens"][0]


@drawn(height=st.integers(1, 2500), width=st.integers(1, 2500), frames=st.integers(1, 3))
def test_so_have_pictures_that_shrink_and_films(height: int, width: int, frames: int) -> None:
    prepare = hf.LlavaOnevisionImageProcessorPil()
    with torch.device("meta"):
        ours = LLaVAOneVision(large("llava_onevision", 384, prepare.image_grid_pinpoints))
    assert count(ours, height, width) == room(prepare, 27, 384, height, width)
    assert len(ours.watch(torch.empty(frames, 3, 384, 384, device="meta"))) == frames * 196 + 1


def room(prepare: Any, grid: int, side: int, height: int, width: int) -> int:
    """Tokens that their processor makes room for; made without a processor of films, which needs torchvision."""
    theirs = hf.LlavaOnevisionProcessor.__new__(hf.LlavaOnevisionProcessor)
    theirs.image_processor, theirs.num_image_tokens, theirs.vision_aspect_ratio = prepare, grid**2, "anyres_max_9"
    return int(theirs._get_number_of_features(height, width, side, side))


def test_a_token_for_the_whole_has_no_place_among_rows() -> None:
    with pytest.raises(ConfigError, match="vision_feature_select_strategy full"):
        LLaVANext({**LARGE, "vision_feature_select_strategy": "full"})


def test_pictures_alone_are_no_films(tmp_path: Path) -> None:
    ours, _ = both(CASES["llava_next"], tmp_path)
    with pytest.raises(ValueError, match="shown a film"):
        ours(torch.tensor([[3]]), [noise(2, 3, SIDE, SIDE)])


SQUARE = {"height": SIDE, "width": SIDE}
TEMPLATE = (
    "{% for m in messages %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<' + p.type + '>' }}"
    "{% endfor %}{% endfor %}:"
)


def shown(kind: str, *shape: int) -> Chunk:
    return Chunk(noise(*shape).mul(40).to(torch.uint8), 0.0, float(kind == "video"), kind)


def says(ours: Any, *parts: str | Chunk) -> tuple[int, ...]:
    state, logits = ours.begin([Message("user", parts)])
    return decode(ours, state, logits, stop=Stop(20))[0].ids


def told(theirs: Any, inputs: Any) -> tuple[int, ...]:
    made = theirs.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    return tuple(i for i in made.tolist() if i != 1)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llava_next", "llava_next_video"])
def test_it_answers_about_things_of_different_sizes(name: str, tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>", "<video>")
    theirs = saved(sized(CASES[name], len(fast), image_token_index=2, video_token_index=3), tmp_path)
    prepare = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=NEXT["image_grid_pinpoints"]
    )
    files = {**prepare.to_dict(), "processor_class": "LlavaNextVideoProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(files))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    ours, processor = (
        mmworld.load(tmp_path),
        hf.LlavaNextProcessor(prepare, fast, 4, "default", num_additional_image_tokens=1),
    )
    pictures, films = [shown("image", 1, 3, 11, 30), shown("image", 1, 3, 25, 9)], []
    if "video" in ours.takes.senses:
        films = [shown("video", 3, 3, 11, 13)]
    arrays = [x.data[0].permute(1, 2, 0).numpy() for x in pictures]
    text = "<image>what is this?<image>" + "<video>" * 3 * len(films) + ":"  # a token for each frame of 2 x 2
    inputs = processor(text=text, images=arrays, return_tensors="pt")
    if films:
        inputs["pixel_values_videos"] = ours.processors["video"](films[0].data)[None]
    assert says(ours, pictures[0], "what is this?", pictures[1], *films) == told(theirs, inputs)


@torch.no_grad()
def test_llava_onevision_answers_about_one_picture_several_or_a_film(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>", "<video>")
    theirs = saved(sized(CASES["llava_onevision"], len(fast), image_token_index=2, video_token_index=3), tmp_path)
    prepare = hf.LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=NEXT["image_grid_pinpoints"])
    prepare.save_pretrained(tmp_path)
    film = {**prepare.to_dict(), "video_processor_type": "LlavaOnevisionVideoProcessor"}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(film))
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    ours = mmworld.load(tmp_path)
    things = shown("image", 1, 3, 11, 30), shown("image", 1, 3, 25, 9), shown("video", 3, 3, 11, 13)
    first, second = (x.data[0].permute(1, 2, 0).numpy() for x in things[:2])
    inputs = prepare([[first, second]], return_tensors="pt")
    inputs["input_ids"] = fast(f"{'<image>' * 10}what{'<image>' * 10}:", return_tensors="pt").input_ids
    assert says(ours, things[0], "what", things[1]) == told(theirs, inputs)
    inputs = prepare(first, return_tensors="pt")
    text = f"{'<image>' * room(prepare, 3, SIDE, 11, 30)}what{'<video>' * 13}:"
    inputs["input_ids"] = fast(text, return_tensors="pt").input_ids
    inputs["pixel_values_videos"] = ours.processors["video"](things[2].data)[None]
    assert says(ours, things[0], "what", things[2]) == told(theirs, inputs)
