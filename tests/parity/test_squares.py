"""Pictures in squares and films frame by frame: the same text, token by token, and the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from checkpoints import saved, sized, vocabulary
from hypothesis import assume, given
from hypothesis import strategies as st
from test_conversation import picture, says, seen, told

import mmworld
from mmworld.errors import ConfigError, UsageError
from mmworld.models.message import Message
from mmworld.models.zoo import idefics3
from mmworld.models.zoo.idefics3 import Idefics3, exact
from mmworld.models.zoo.parity.case import both, noise
from mmworld.models.zoo.parity.joint import asked
from mmworld.models.zoo.parity.squares import CASES
from mmworld.text.number import words
from mmworld.types import Chunk
from mmworld.vision.split import Split

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
MARKS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", "<|im_start|>")
MARKS += tuple(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2))
SIZES: dict[str, Any] = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
TOKENS = 16
ASKED = "what is this?\n\nAnd that"


def processor_of(kind: str, fast: Any = None, **changes: Any) -> Any:
    """Theirs; SmolVLM's without its processor of films, which needs torchvision, and a package for numbers in words."""
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

    prepare = getattr(hf, f"{kind}ImageProcessorPil")(**{**SIZES, **changes})
    if kind == "Idefics3":
        return hf.Idefics3Processor(prepare, fast, image_seq_len=TOKENS)
    made = SmolVLMProcessor.__new__(SmolVLMProcessor)
    made.image_processor, made.image_seq_len, made.video_token = prepare, TOKENS, "<video>"
    made.image_token, made.fake_image_token, made.global_image_token = MARKS[0], MARKS[1], MARKS[3]
    return made


def large(name: str, n: int) -> Any:
    case = sized(CASES[name], n, image_token_id=2)
    case.sizes["vision_config"] = {**case.sizes["vision_config"], "image_size": 32}
    return case


@torch.no_grad()
@pytest.mark.parametrize("splits", [True, False])
def test_idefics3_answers_about_pictures_in_squares(splits: bool, tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, *MARKS, size=400)
    theirs = saved(large("idefics3", len(fast)), tmp_path)
    processor = processor_of("Idefics3", fast, do_image_splitting=splits)
    processor.image_processor.save_pretrained(tmp_path)
    ours, shown = mmworld.load(tmp_path), (picture(1), picture(2, 40, 30), picture(3, 9, 50))
    text = f"<|im_start|>User:<image><image>{ASKED}<end_of_utterance>\nAssistant: two boys<end_of_utterance>\n"
    text += "User:<image>this?<end_of_utterance>\nAssistant:"
    given = processor(text=text, images=[[x.permute(1, 2, 0).numpy() for x in shown]], return_tensors="pt")
    conversation = (
        Message("user", (*seen(*shown[:2]), ASKED)),
        Message("assistant", ("two boys",)),
        Message("user", (*seen(shown[2]), "this?")),
    )
    ids, pixels = ours.prepared(conversation)
    assert ids == given["input_ids"][0].tolist()
    assert torch.allclose(pixels, given["pixel_values"][0], atol=1e-3)
    assert says(ours, *conversation) == told(theirs, given, len(ids))
    with pytest.raises(UsageError, match="places for 2 things and shows 1"):
        ours.prepared([Message("user", (*seen(shown[0]), "an <image>"))])


@torch.no_grad()
def test_smolvlm_answers_about_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.smolvlm import processing_smolvlm as reference

    monkeypatch.setattr(reference, "num2words", {3: "three"}.get)
    fast = vocabulary(tmp_path, *MARKS, size=400)
    theirs = saved(large("smolvlm", len(fast)), tmp_path)
    processor = processor_of("SmolVLM", do_image_splitting=False)
    processor.image_processor.save_pretrained(tmp_path)
    ours, film = mmworld.load(tmp_path), torch.stack([picture(i, 20, 30) for i in range(3)])
    pixels = processor.image_processor([[*film.permute(0, 2, 3, 1).numpy()]], return_tensors="pt").pixel_values
    stands = processor.replace_video_token({"pixel_values": pixels, "video_metadata": [metadata(3, 7.5)]}, 0)
    text = f"<|im_start|>User: {stands}{ASKED}<end_of_utterance>\nAssistant:"
    given = {"input_ids": torch.tensor([fast(text).input_ids]), "pixel_values": pixels}
    conversation = Message("user", (Chunk(film, 1.0, 8.5, "video"), ASKED))
    ids, got = ours.prepared([conversation])
    assert ids == given["input_ids"][0].tolist()
    assert torch.allclose(got, pixels[0], atol=1e-3)
    assert says(ours, conversation) == told(theirs, given, len(ids))


def metadata(frames: int, seconds: float) -> Any:
    from transformers.video_utils import VideoMetadata

    return VideoMetadata(
        total_num_frames=frames, fps=frames / seconds, duration=seconds, frames_indices=list(range(frames))
    )


@given(rows=st.integers(0, 5), columns=st.integers(1, 5))
def test_a_picture_s_text_is_that_of_the_reference(rows: int, columns: int) -> None:
    columns = columns if rows else 0
    got = idefics3.laid(Split(torch.empty(0), rows, columns), TOKENS)
    assert got == processor_of("SmolVLM").replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)


@given(frames=st.integers(1, 64), seconds=st.floats(0.1, 9000))
def test_a_film_s_text_is_that_of_the_reference(frames: int, seconds: float) -> None:
    from transformers.models.smolvlm import processing_smolvlm as reference

    times = [i * seconds / frames for i in range(1, frames)]
    assume(all(abs(t - round(t)) > 1e-6 for t in times))  # rounding puts such a time on either side of a second
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "num2words", words)
        seen = {"pixel_values": torch.empty(1, frames), "video_metadata": [metadata(frames, seconds)]}
        want = processor_of("SmolVLM").replace_video_token(seen, 0)
    assert idefics3.told(frames, seconds, TOKENS) == want


def test_numbers_in_words() -> None:
    assert [words(n) for n in (0, 1, 12, 15, 19, 20, 21, 40, 64, 99)] == (
        ["zero", "one", "twelve", "fifteen", "nineteen", "twenty", "twenty-one", "forty", "sixty-four", "ninety-nine"]
    )
    assert len({words(n) for n in range(100)}) == 100
    with pytest.raises(ValueError, match="100 is not 0 to 99"):
        words(100)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_it_reads_packed_and_goes_on(name: str, tmp_path: Path) -> None:
    ours, theirs = both(CASES[name], tmp_path)
    texts, squares = [asked(n, 4) for n in (2, 1)], noise(3, 3, 16, 16)
    lengths = tuple(t.shape[1] for t in texts)
    packed = ours(torch.cat(texts, dim=1), squares, lengths=lengths).split(lengths, dim=1)
    for text, shown, got in zip(texts, (squares[:2], squares[2:]), packed, strict=True):
        check(got, theirs(text, pixel_values=shown[None]).logits)
    text, shown = texts[1], squares[2:]
    given = {"pixel_values": shown[None], "max_new_tokens": 32, "do_sample": False, "pad_token_id": 0}
    want = theirs.generate(text, **given, eos_token_id=999)[0, text.shape[1] :].tolist()
    state = ours.init_state()
    logits = ours(text, shown, state)[:, -1]
    assert goes_on(ours, logits, state) == want


def test_grids_whose_places_the_makers_confuse_are_refused() -> None:
    from transformers.models.idefics3.modeling_idefics3 import Idefics3VisionEmbeddings

    for grid in range(2, 33):
        config = hf.Idefics3Config(vision_config={"image_size": grid, "patch_size": 1, "hidden_size": 4})
        module = Idefics3VisionEmbeddings(config.vision_config)
        places = torch.arange(grid**2, dtype=torch.float32)[:, None].expand(-1, 4)
        module.position_embedding.weight.data.copy_(places)
        module.patch_embedding.weight.data.zero_()
        module.patch_embedding.bias.data.zero_()
        got = module(torch.zeros(1, 3, grid, grid), torch.ones(1, grid, grid, dtype=torch.bool))
        assert exact(grid) == torch.equal(got[0], places)
    sizes = {**CASES["idefics3"].sizes, "vision_config": {"image_size": 50, "patch_size": 1, "hidden_size": 16}}
    with pytest.raises(ConfigError, match="50 patches a side"):
        Idefics3({"model_type": "idefics3", **sizes})
