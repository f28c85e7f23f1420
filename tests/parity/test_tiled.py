"""Language models that see pictures in tiles, and films: packed, word by word, in conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check
from checkpoints import saved, sized, vocabulary
from hypothesis import given as drawn
from hypothesis import strategies as st

import mmworld
from mmworld.errors import ConfigError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.message import Message
from mmworld.models.zoo.llava_next import LLaVANext
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
    state, said = ours.init_state(), []
    logits = ours(text, [*pictures, *films], state)[:, -1]
    while len(said) < 32:
        said.append(int(logits[0].argmax()))
        logits = ours.read(torch.tensor([[said[-1]]]), state)
    assert said == made[0, text.shape[1] :].tolist()


def large(**changes: Any) -> dict[str, Any]:
    """What config.json says of a tiny model with the canvases and patches of the real ones."""
    vision = {**NEXT["vision_config"], "image_size": 336, "patch_size": 14}
    return {**NEXT, "model_type": "llava_next", "vision_config": vision, "image_grid_pinpoints": PINPOINTS, **changes}


PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


@drawn(height=st.integers(1, 2000), width=st.integers(1, 2000))
def test_a_picture_of_any_size_has_as_many_tokens_as_the_reference_makes_room_for(height: int, width: int) -> None:
    with torch.device("meta"):
        ours = LLaVANext(large())
    rows, columns = (n // 336 for n in canvas((height, width), ours.config.image_grid_pinpoints))
    pixels = torch.empty(1 + rows * columns, 3, 336, 336, device="meta")
    (seen,) = ours.see([Tiled(pixels, (height, width))])
    assert len(seen) == room(height, width)


def room(height: int, width: int) -> int:
    prepare = hf.LlavaNextImageProcessorPil(size={"shortest_edge": 336}, image_grid_pinpoints=PINPOINTS)
    words = hf.PreTrainedTokenizerFast(tokenizer_object=core(), unk_token="<image>")
    processor = hf.LlavaNextProcessor(prepare, words, 14, "default", num_additional_image_tokens=1)
    return int(processor._get_num_multimodal_tokens([(height, width)])["num_image_tokens"][0])


def core() -> Any:
    import tokenizers

    return tokenizers.Tokenizer(tokenizers.models.WordLevel({"<image>": 0}, "<image>"))


def test_a_token_for_the_whole_has_no_place_among_rows() -> None:
    with pytest.raises(ConfigError, match="vision_feature_select_strategy full"):
        LLaVANext(large(vision_feature_select_strategy="full"))


def test_pictures_alone_are_no_films(tmp_path: Path) -> None:
    ours, _ = both(CASES["llava_next"], tmp_path)
    with pytest.raises(ValueError, match="shown a film"):
        ours(torch.tensor([[3]]), [noise(2, 3, SIDE, SIDE)])


@torch.no_grad()
def test_llava_next_answers_about_pictures_of_different_sizes(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>")
    theirs = saved(sized(CASES["llava_next"], len(fast), image_token_index=2), tmp_path)
    square = {"height": SIDE, "width": SIDE}
    prepare = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=square, image_grid_pinpoints=NEXT["image_grid_pinpoints"]
    )
    prepare.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}"
        "{% endfor %}:"
    )
    ours, shown = mmworld.load(tmp_path), [noise(3, h, w).mul(40).to(torch.uint8) for h, w in ((11, 30), (25, 9))]
    processor = hf.LlavaNextProcessor(prepare, fast, 4, "default", num_additional_image_tokens=1)
    text = "<image>what is this?<image>:"
    inputs = processor(text=text, images=[x.permute(1, 2, 0).numpy() for x in shown], return_tensors="pt")
    told = theirs.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    first, second = (Chunk(x[None], 0.0, 0.0, "image") for x in shown)
    state, logits = ours.begin([Message("user", (first, "what is this?", second))])
    said = decode(ours, state, logits, stop=Stop(20))[0].ids
    assert said == tuple(i for i in told if i != 1)
