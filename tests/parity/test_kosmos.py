"""Kosmos-2: its text word for word, its places box for box, and what it says, as the reference has them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from checkpoints import grounder
from hypothesis import example, given
from hypothesis import strategies as st
from test_conversation import N, picture, says, seen

import mmworld
from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo.kosmos2 import prompt
from mmworld.models.zoo.parity.case import Case, both, ids, noise
from mmworld.models.zoo.parity.joint import LOCATED, located
from mmworld.text.grounding import parse

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
TAGS = ("<grounding>", "<phrase>", "</phrase>", "<object>", "</object>", "</delimiter_of_multi_objects/>", "</line>")
CELL = st.integers(0, 1023).map("<patch_index_{:04d}>".format)
OTHER = st.sampled_from([*TAGS, " ", "  ", " a dog", "two boys ", "snow.", "a < b", ">", "é\n", "<"])
BOX = st.tuples(CELL, CELL).map("".join)
BOXES = st.lists(BOX, min_size=1, max_size=3).map("</delimiter_of_multi_objects/>".join)
PHRASE = st.sampled_from(["", "<phrase> a dog</phrase>", "<phrase>  </phrase>", "<phrase>snow \n</phrase>"])
PLACED = st.tuples(PHRASE, BOXES).map(lambda parts: f"{parts[0]}<object>{parts[1]}</object>")
TEXT = st.lists(OTHER | CELL | PLACED, max_size=12).map("".join)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder, theirs and its processor, and ours."""
    folder = tmp_path_factory.mktemp("kosmos")
    return folder, *grounder(folder), mmworld.load(folder)


@given(text=TEXT)
@example("<image> x</image><grounding> A<phrase> dog</phrase><object><patch_index_0044><patch_index_0044></object>")
def test_boxes_are_those_of_the_reference(text: str) -> None:
    plain, entities = hf.Kosmos2Processor.post_process_generation(_Words, text)
    got = parse(text)
    assert got.text == plain
    assert [(e.phrase, e.span, list(e.boxes)) for e in got.entities] == entities


class _Words:
    """What the reference's parsing asks of its processor."""

    eoi_token = "</image>"


@given(text=TEXT)
def test_a_text_after_a_picture_has_the_reference_s_ids(made: Any, text: str) -> None:
    _, _, processor, ours = made
    told = processor(text=text, images=torch.zeros(3, 8, 8))
    assert prompt(ours.tokenizer, text, 3) == told["input_ids"]
    assert [i for i, x in enumerate(told["image_embeds_position_mask"]) if x] == [2, 3, 4]


@torch.no_grad()
@pytest.mark.parametrize("case", LOCATED.values(), ids=LOCATED)
def test_it_reads_texts_packed_and_in_pieces(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    pictures, texts = noise(2, 3, 8, 8), [located(n, 3) for n in (9, 5)]
    want = [theirs(p[None], t, image_embeds_position_mask=w).logits for p, (t, w) in zip(pictures, texts, strict=True)]
    lengths = tuple(t.shape[1] for t, _ in texts)
    row, where = (torch.cat(x, dim=1) for x in zip(*texts, strict=True))
    for got, wanted in zip(ours(row, pictures, where, lengths=lengths).split(lengths, dim=1), want, strict=True):
        check(got, wanted)
    (text, where), state = texts[0], ours.language.init_state()
    parts = [ours(text[:, :6], pictures[:1], where[:, :6], state), ours(text[:, 6:], state=state)]
    check(torch.cat(parts, dim=1), want[0])
    words = ids(7)
    check(ours(words), theirs.text_model(words).logits)
    with pytest.raises(ValueError, match="3 places for tokens of what it shows, which gives 6"):
        ours(text, pictures, where)


@torch.no_grad()
@pytest.mark.parametrize("case", LOCATED.values(), ids=LOCATED)
def test_it_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    pixels, (text, where) = noise(1, 3, 8, 8), located(9, 3)
    given = {"input_ids": text, "image_embeds_position_mask": where, "attention_mask": torch.ones_like(text)}
    told = theirs.generate(pixels, **given, max_new_tokens=32, do_sample=False, pad_token_id=1, eos_token_id=999)
    state = ours.language.init_state()
    logits = ours(text, pixels, where, state)[:, -1]
    assert goes_on(ours, logits, state) == told[0, text.shape[1] :].tolist()


@torch.no_grad()
def test_it_captions_and_answers_about_a_picture(made: Any) -> None:
    _, theirs, processor, ours = made
    user = Message("user", (*seen(picture()), "what is this?"))
    for messages, text in (
        ([Message("user", seen(picture()))], "An image of"),
        ([Message("user", seen(picture())), Message("assistant", ("a dog",))], "a dog"),
        ([user], "Question: what is this? Answer:"),
        (
            [user, Message("assistant", ("a dog",)), Message("user", ("where?",))],
            "Question: what is this? Answer: a dog Question: where? Answer:",
        ),
    ):
        given = processor(text=text, images=picture(), return_tensors="pt")
        told = theirs.generate(**given, max_new_tokens=N, do_sample=False)[0, given["input_ids"].shape[1] :].tolist()
        assert says(ours, *messages) == tuple(i for i in told if i != 2)


def test_what_it_cannot_be_shown_is_said(made: Any) -> None:
    *_, ours = made
    for messages, shown in (([Message("user", ("what?",))], 0), ([Message("user", seen(picture(), picture()))], 2)):
        with pytest.raises(UsageError, match=f"looks at one picture, and is shown {shown}"):
            ours.begin(messages)
    words = re.escape("it has no bos_token or unk_token")
    tokens, ours.tokenizer.tokens = ours.tokenizer.tokens, {}
    with pytest.raises(UsageError, match=words):
        ours.begin([Message("user", seen(picture()))])
    ours.tokenizer.tokens = tokens
