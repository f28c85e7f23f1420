"""A model that is shown something and asked about it says what the reference says, which is given the same by its own
processor.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import answerer, captioner, saved, sized, vocabulary
from PIL import Image
from torch import Tensor

import mmworld
from mmworld.cli import command
from mmworld.errors import CheckpointError, UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.message import Message
from mmworld.models.zoo.parity import CASES, LIMIT
from mmworld.models.zoo.parity.case import largest
from mmworld.text.chat import Chat
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
SIZE = {"height": 8, "width": 8}
N = 20


def picture(seed: int = 0, height: int = 11, width: int = 14) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def seen(*pictures: Tensor) -> tuple[Chunk, ...]:
    return tuple(Chunk(p[None], 0.0, 0.0, "image") for p in pictures)


def says(ours: Any, *messages: Message) -> tuple[int, ...]:
    state, logits = ours.begin(messages)
    return decode(ours, state, logits, stop=Stop(N))[0].ids


@torch.no_grad()
def told(theirs: Any, given: Any, skip: int, ends: Sequence[int] = (1,)) -> tuple[int, ...]:
    ids = theirs.generate(**given, max_new_tokens=N, do_sample=False)[0, skip:].tolist()
    return tuple(i for i in ids if i not in ends)


@torch.no_grad()
def test_llava_answers_about_pictures(tmp_path: Path) -> None:
    theirs, _, processor = answerer(tmp_path)
    ours, shown = mmworld.load(tmp_path), (picture(1), picture(2, 9, 30))
    text = "USER: <image>\nwhat is this? ASSISTANT: two boys</s>USER: <image>\nand this? ASSISTANT: a"
    given = processor(text=text, images=list(shown), return_tensors="pt")
    first, second = seen(*shown)
    conversation = (
        Message("user", (first, "what is this?")),
        Message("assistant", ("two boys",)),
        Message("user", (second, "and this?")),
        Message("assistant", (" a",)),
    )
    assert says(ours, *conversation) == told(theirs, given, given["input_ids"].shape[1])
    ours.tokenizer.chat = Chat("{{ messages[0].content[1].type }}")
    with pytest.raises(UsageError, match="places for 0 things and shows 1"):
        ours.begin(conversation[:1])


@torch.no_grad()
def test_blip_captions_a_picture(tmp_path: Path) -> None:
    theirs, fast, prepare = captioner(tmp_path)
    ours, pixels = mmworld.load(tmp_path), prepare(picture(), return_tensors="pt")
    assert says(ours, Message("user", seen(picture()))) == told(theirs, pixels, 1)
    ids = torch.tensor([[5, *fast("a dog", add_special_tokens=False).input_ids, 1]])
    want = told(theirs, {**pixels, "input_ids": ids}, ids.shape[1] - 1)
    assert says(ours, Message("user", seen(picture())), Message("assistant", ("a dog",))) == want
    with pytest.raises(UsageError, match="ask nothing"):
        ours.begin([Message("user", (*seen(picture()), "what is this?"))])


@torch.no_grad()
def test_blip_answers_and_matches(tmp_path: Path) -> None:
    fast = vocabulary(tmp_path)
    case = sized(CASES["blip, questions"], len(fast))
    case.sizes["text_config"] |= {"bos_token_id": 5, "sep_token_id": 1}
    theirs = saved(case, tmp_path)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    ours, pixels = mmworld.load(tmp_path), prepare(picture(), return_tensors="pt")
    asked = {**pixels, "input_ids": torch.tensor([fast("what is this?").input_ids])}
    assert says(ours, Message("user", (*seen(picture()), "what is this?"))) == told(theirs, asked, 1)
    with pytest.raises(UsageError, match="ask it something"):
        ours.begin([Message("user", seen(picture()))])
    case = sized(CASES["blip, matching"], len(fast))
    theirs = saved(case, tmp_path)
    texts = ["a dog", "two boys play in the snow"]
    rows = [torch.tensor([fast(t).input_ids]) for t in texts]
    want = [theirs(input_ids=r, **pixels, use_itm_head=True).itm_score.softmax(-1)[0, 1] for r in rows]
    got = mmworld.match(*seen(picture()), texts=texts, model=mmworld.load(tmp_path))
    assert torch.allclose(got[0], torch.stack(want), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_blip_2_captions_and_answers(kind: str, tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>")
    theirs = saved(sized(CASES[f"blip-2, {kind}"], len(fast), image_token_index=2), tmp_path)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    ours, pixels = mmworld.load(tmp_path), prepare(picture(), return_tensors="pt")
    for text, words in (("", ()), ("Question: what is this? Answer:", ("what is this?",))):
        ids = torch.tensor([[2] * 3 + fast(text).input_ids])
        skip = 1 if kind == "t5" else ids.shape[1]
        want = told(theirs, {**pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}, skip)
        assert says(ours, Message("user", (*seen(picture()), *words))) == want
    ids = fast("Question: what is this? Answer: a dog Question: and that? Answer: two").input_ids
    again = ours.begin(asked_in_turns(*seen(picture())))[1]
    given = {**pixels, "input_ids": torch.tensor([[2] * 3 + ids])}
    if kind == "opt":
        assert torch.allclose(again, theirs(**given).logits[:, -1], atol=1e-4)


@torch.no_grad()
def test_blip_2_matches_and_classifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the words of its processor, which here has no places for pictures, as in the folders that were released."""
    fast = vocabulary(tmp_path)
    case = sized(CASES["blip-2, matching"], len(fast))
    case.sizes["qformer_config"] |= {"vocab_size": len(fast), "max_position_embeddings": 40}
    theirs = saved(case, tmp_path)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    pixels, (shown,) = prepare(picture(), return_tensors="pt"), seen(picture())

    def want(text: str) -> float:
        given = {**pixels, **fast(text, return_tensors="pt", return_token_type_ids=False)}
        scores = theirs(**given, use_image_text_matching_head=True).logits_per_image
        return float(scores.softmax(-1)[0, 1])

    texts = ["a dog", "two boys play in the snow"]
    assert mmworld.match(shown, texts=texts, model=tmp_path)[0].tolist() == pytest.approx(list(map(want, texts)))
    path = tmp_path / "a.png"
    Image.fromarray(picture().permute(1, 2, 0).numpy()).save(path)
    assert command(["classify", str(path), "--labels", "dog,snow", "--model", str(tmp_path), "--json"]) == 0
    named = json.loads(capsys.readouterr().out)["labels"]
    assert named == pytest.approx({label: want(f"a photo of a {label}") for label in ("dog", "snow")})
    assert mmworld.embed(texts=texts, model=tmp_path).shape == (2, 20)
    with pytest.raises(UsageError, match="a BLIP2Match has many directions for a thing"):
        mmworld.embed(shown, model=tmp_path)
    with pytest.raises(UsageError, match=r"the texts do not go into this model: .* the model has learned 40 places"):
        mmworld.match(shown, texts=["x" * 50], model=tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["", ", opt", ", t5"])
def test_instructblip_looks_for_what_is_asked(kind: str, tmp_path: Path) -> None:
    fast = vocabulary(tmp_path, "<image>")
    (tmp_path / "qformer_tokenizer").mkdir()
    asks = vocabulary(tmp_path / "qformer_tokenizer", size=300)
    case = sized(CASES[f"instructblip{kind}"], len(fast), image_token_index=2)
    case.sizes["qformer_config"] |= {"vocab_size": len(asks), "max_position_embeddings": 64}
    theirs = saved(case, tmp_path)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    ours, pixels, text = mmworld.load(tmp_path), prepare(picture(), return_tensors="pt"), "what is this?"
    ids = torch.tensor([[2] * 3 + fast(text).input_ids])
    shown = {**pixels, "qformer_input_ids": torch.tensor([asks(text).input_ids]), "input_ids": ids}
    shown |= {"attention_mask": torch.ones_like(ids)}
    want = told(theirs, shown, 1 if kind == ", t5" else ids.shape[1])
    assert says(ours, Message("user", (*seen(picture()), text))) == want
    with pytest.raises(UsageError, match="the model has learned 64"):
        ours.begin([Message("user", (*seen(picture()), text * 20))])
    ids = torch.tensor([[2] * 3 + fast("what is this? a dog and that? two").input_ids])
    shown |= {"qformer_input_ids": torch.tensor([asks("what is this? and that?").input_ids]), "input_ids": ids}
    shown |= {"attention_mask": torch.ones_like(ids)}
    assert says(ours, *asked_in_turns(*seen(picture()))) == told(theirs, shown, 1 if kind == ", t5" else ids.shape[1])


def asked_in_turns(*shown: Chunk) -> tuple[Message, ...]:
    """Two questions about what is shown, and what was said to each."""
    first = Message("user", (*shown, "what is this?")), Message("assistant", ("a dog",))
    return *first, Message("user", ("and that?",)), Message("assistant", ("two",))


@torch.no_grad()
@pytest.mark.parametrize("name", ["blip-2, opt", "instructblip"])
def test_pictures_without_a_place_are_refused(name: str, tmp_path: Path) -> None:
    """As transformers does, which fails at it; what is not a picture is refused, too."""
    theirs = saved(CASES[name], tmp_path)
    theirs.config.image_token_index = None
    theirs.save_pretrained(tmp_path)
    ours, pixels, ids = mmworld.load(tmp_path), torch.zeros(1, 3, 8, 8), torch.tensor([[49, 49, 49, 5]])
    given = {"pixel_values": pixels, "input_ids": ids}
    asked = () if name == "blip-2, opt" else (ids,)
    with pytest.raises(AttributeError):
        theirs(**given, **({"qformer_input_ids": ids} if asked else {}))
    with pytest.raises(ValueError, match="names no id that stands for what is shown"):
        ours(ids, pixels, *asked)
    with pytest.raises(UsageError, match="takes image, not audio"):
        ours.begin([Message("user", (Chunk(torch.zeros(9, 1), 0.0, 1.0, "audio"), "what?"))])


@pytest.mark.parametrize("name", ["blip-2, opt", "instructblip"])
def test_another_language_model_is_named(name: str, tmp_path: Path) -> None:
    saved(CASES[name], tmp_path)
    said = json.loads((tmp_path / "config.json").read_text())
    said["text_config"]["model_type"] = "gpt_neox"
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"text_config: model_type: gpt_neox is none of llama, opt, t5$"):
        mmworld.load(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("name", ["blip-2, opt", "instructblip, opt"])
def test_a_language_model_that_is_not_named_is_the_reference_s(name: str, tmp_path: Path) -> None:
    theirs, case = saved(CASES[name], tmp_path), CASES[name]
    said = json.loads((tmp_path / "config.json").read_text())
    del said["text_config"]["model_type"]
    (tmp_path / "config.json").write_text(json.dumps(said))
    again = getattr(hf, case.model).from_pretrained(tmp_path).eval()
    assert type(again.language_model) is type(theirs.language_model)
    assert largest(case.compare(mmworld.load(tmp_path), again)) <= LIMIT


def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    theirs = CASES["llava"]
    saved(theirs, tmp_path)
    message = Message("user", seen(picture()))
    with pytest.raises(UsageError, match=r"preprocessor_config\.json says nothing"):
        mmworld.load(tmp_path).begin([message])
    hf.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=SIZE).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        mmworld.load(tmp_path).begin([message])
