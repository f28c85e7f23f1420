"""A model that is shown something and asked about it says what the reference says, which is given the same by its own
processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import answerer, bert_vocabulary, captioner, judge, llama_vocabulary, saved, sized, vocabulary
from clips import clip, number
from PIL import Image
from torch import Tensor

import mmworld
from mmworld.errors import CheckpointError, MediaError, UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.looking import parts
from mmworld.models.message import Message
from mmworld.models.zoo.parity import CASES
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
    asked = Message("user", ("what is this?",)), Message("assistant", ("a dog",)), Message("user", ("and that?",))
    again = ours.begin([Message("user", seen(picture())), *asked, Message("assistant", ("two",))])[1]
    given = {**pixels, "input_ids": torch.tensor([[2] * 3 + ids])}
    if kind == "opt":
        assert torch.allclose(again, theirs(**given).logits[:, -1], atol=1e-4)


@torch.no_grad()
def test_blip_2_matches(tmp_path: Path) -> None:
    theirs, fast, prepare = judge(tmp_path)
    pixels, labels = prepare(picture(), return_tensors="pt"), ["dog", "naïve café"]
    rows = [fast(f"a photo of a {label}", return_tensors="pt") for label in labels]
    told = [theirs(**pixels, **r, use_image_text_matching_head=True).logits_per_image for r in rows]
    want = dict(zip(labels, torch.cat(told).softmax(-1)[:, 1].tolist(), strict=True))
    (got,) = mmworld.classify(*seen(picture()), labels=labels, model=tmp_path)
    assert got == pytest.approx(want, abs=1e-5)
    assert list(got) == sorted(want, key=lambda label: -want[label])
    with pytest.raises(UsageError, match="many directions for a picture and none for all of it"):
        mmworld.embed(*seen(picture()), model=tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("Blip2ForImageTextRetrieval", "Blip2Model"))
    with pytest.raises(CheckpointError, match="Blip2Model is none of Blip2ForConditionalGeneration, Blip2ForImage"):
        mmworld.load(tmp_path)


def instructed(name: str, folder: Path, **places: int) -> tuple[Any, Any, Any]:
    """An InstructBLIP, its vocabulary, and that of its Q-Former."""
    fast = vocabulary(folder, "<image>")
    (folder / "qformer_tokenizer").mkdir()
    asks = vocabulary(folder / "qformer_tokenizer", size=300)
    case = sized(CASES[name], len(fast), **places)
    case.sizes["qformer_config"] |= {"vocab_size": len(asks), "max_position_embeddings": 64}
    return saved(case, folder), fast, asks


@torch.no_grad()
@pytest.mark.parametrize("kind", ["", ", opt", ", t5"])
def test_instructblip_looks_for_what_is_asked(kind: str, tmp_path: Path) -> None:
    theirs, fast, asks = instructed(f"instructblip{kind}", tmp_path, image_token_index=2)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    ours, pixels, text = mmworld.load(tmp_path), prepare(picture(), return_tensors="pt"), "what is this?"
    ids = torch.tensor([[2] * 3 + fast(text).input_ids])
    shown = {**pixels, "qformer_input_ids": torch.tensor([asks(text).input_ids]), "input_ids": ids}
    shown |= {"attention_mask": torch.ones_like(ids)}
    want = told(theirs, shown, 1 if kind == ", t5" else ids.shape[1])
    assert says(ours, Message("user", (*seen(picture()), text))) == want
    with pytest.raises(UsageError, match="the Q-Former of this model reads 64"):
        ours.begin([Message("user", (*seen(picture()), text * 20))])


@torch.no_grad()
@pytest.mark.parametrize("text", ["What is unusual about this image?", "naïve café: 3 dogs?\nYes,  both\t😀"])
def test_instructblip_reads_what_its_processor_writes(text: str, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece", reason="the extra 'sentencepiece' is not installed")
    words, asks = llama_vocabulary(shared_data / "tokenizers/llama2/tokenizer.model"), bert_vocabulary()
    processor = hf.InstructBlipProcessor(hf.BlipImageProcessorPil(size=SIZE), words, asks, num_query_tokens=3)
    processor.save_pretrained(tmp_path)
    case = sized(CASES["instructblip"], len(words), image_token_index=words.convert_tokens_to_ids("<image>"))
    case.sizes["qformer_config"] |= {"vocab_size": len(asks), "max_position_embeddings": 64}
    theirs = saved(case, tmp_path)
    given = processor(text=text, images=picture(), return_tensors="pt")
    got = mmworld.load(tmp_path).begin([Message("user", (*seen(picture()), text))])[1]
    assert torch.allclose(got, theirs(**given).logits[:, -1], atol=1e-4)


@torch.no_grad()
def test_instructblip_reads_turns_in_their_order(tmp_path: Path) -> None:
    """What was said before is asked too, of the Q-Former and of the language model; the answer that begins is not."""
    theirs, fast, asks = instructed("instructblip", tmp_path, image_token_index=2)
    prepare = hf.BlipImageProcessorPil(size=SIZE)
    prepare.save_pretrained(tmp_path)
    first, said, second = Message("user", (*seen(picture()), "a dog?")), "no", Message("user", ("snow?",))
    turns = first, Message("assistant", (said,)), second, Message("assistant", ("two",))
    shown = prepare(picture(), return_tensors="pt")
    shown |= {"qformer_input_ids": torch.tensor([asks("a dog? no snow?").input_ids])}
    shown |= {"input_ids": torch.tensor([[2] * 3 + fast("a dog? no snow? two").input_ids])}
    got = mmworld.load(tmp_path).begin(turns)[1]
    assert torch.allclose(got, theirs(**shown).logits[:, -1], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["", ", t5"])
def test_instructblip_looks_at_films(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="transformers' video processors need it")
    theirs, fast, asks = instructed(f"instructblipvideo{kind}", tmp_path, video_token_index=2)
    prepare = hf.InstructBlipVideoVideoProcessor(size=SIZE)
    prepare.save_pretrained(tmp_path)
    (tmp_path / "film.mp4").write_bytes(clip(60, fps=10))
    ours, text = mmworld.load(tmp_path), "what is this?"
    (film,) = parts(tmp_path / "film.mp4", ours.takes)
    assert [number(frame) for frame in film.data] == [7, 22, 37, 52]  # in the middles of four quarters of six seconds
    ids = torch.tensor([[2] * 3 * 4 + fast(text).input_ids])
    shown = {"input_ids": ids, "qformer_input_ids": torch.tensor([asks(text).input_ids])}
    shown |= {**prepare(film.data, return_tensors="pt"), "attention_mask": torch.ones_like(ids)}
    want = told(theirs, shown, 1 if kind else ids.shape[1])
    assert says(ours, Message("user", (film, text))) == want
    assert mmworld.ask(text, tmp_path / "film.mp4", model=ours, stop=Stop(N)) == fast.decode(want).strip()
    assert len(mmworld.caption(tmp_path / "film.mp4", model=ours, policy=mmworld.Every(3.0))) == 2
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="wanted is video"):
        mmworld.ask(text, tmp_path / "a.png", model=ours)


@torch.no_grad()
@pytest.mark.parametrize("name", ["blip-2, opt", "blip-2, t5", "instructblip", "instructblip, t5"])
def test_pictures_without_a_place_among_the_ids_are_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    theirs = saved(replace(case, sizes={**case.sizes, "image_token_index": None}), tmp_path)
    ours, ids, pixels = mmworld.load(tmp_path), torch.tensor([[49, 49, 49, 5]]), torch.zeros(1, 3, 8, 8)
    asks = (ids,) if name.startswith("instructblip") else ()
    given = {"input_ids": ids, "qformer_input_ids": ids} if asks else {"input_ids": ids}
    with pytest.raises(AttributeError):  # theirs asks for the shape of what it did not find
        theirs(pixel_values=pixels, decoder_input_ids=ids, **given)
    with pytest.raises(ValueError, match="names no id that stands for pictures"):
        ours(ids, pixels, *asks, answer=ids)


@pytest.mark.parametrize("name", ["blip-2, opt", "instructblip", "instructblipvideo"])
def test_a_language_model_that_is_not_built_here_is_named(name: str, tmp_path: Path) -> None:
    sizes = CASES[name].sizes
    saved(replace(CASES[name], sizes={**sizes, "text_config": {"model_type": "gpt2", "n_embd": 12}}), tmp_path)
    with pytest.raises(CheckpointError, match="text_config: model_type: 'gpt2' is none of opt, llama, t5"):
        mmworld.load(tmp_path)


def test_what_a_folder_lacks_is_said(tmp_path: Path) -> None:
    theirs = CASES["llava"]
    saved(theirs, tmp_path)
    message = Message("user", seen(picture()))
    with pytest.raises(UsageError, match=r"preprocessor_config\.json says nothing"):
        mmworld.load(tmp_path).begin([message])
    hf.CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=SIZE).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        mmworld.load(tmp_path).begin([message])
