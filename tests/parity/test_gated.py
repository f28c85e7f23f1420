"""Language models that look at pictures between their layers: packed, in pieces, asked, and what a token sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on
from checkpoints import saved, sized, vocabulary
from hypothesis import given
from hypothesis import strategies as st
from test_conversation import picture, says, seen, told

import mmworld
from mmworld.fusion.gated import sight
from mmworld.models.message import Message
from mmworld.models.zoo.idefics import END
from mmworld.models.zoo.parity.case import Case, both, ids, noise
from mmworld.models.zoo.parity.equations import flamingo
from mmworld.models.zoo.parity.gated import CASES, sees
from mmworld.models.zoo.parity.joint import asked

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
EOS = 2


@given(
    row=st.lists(st.sampled_from(["word", "picture", "end"]), min_size=1, max_size=20),
    tokens=st.integers(0, 3),
    cut=st.integers(0, 20),
)
def test_a_token_sees_the_last_picture_before_it(row: list[str], tokens: int, cut: int) -> None:
    lengths = tuple(n for n in (min(cut, len(row)), len(row) - min(cut, len(row))) if n)
    places, ends = (torch.tensor([r == kind for r in row]) for kind in ("picture", "end"))
    pictures = row.count("picture")
    want = torch.zeros(len(row), pictures, dtype=torch.bool)
    last, starts = None, {sum(lengths[:i]) for i in range(len(lengths))}
    for i, kind in enumerate(row):
        last = None if i in starts or (i and row[i - 1] == "end") else last
        last = row[:i].count("picture") if kind == "picture" else last
        if last is not None:
            want[i, last] = True
    got = sight(places, tokens, lengths, ends).dense(len(row), pictures * tokens)
    assert torch.equal(got, want.repeat_interleave(tokens, dim=1))


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_reads_texts_packed_and_in_pieces(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    first, second = asked(2, 1), torch.cat((ids(2), torch.tensor([[EOS]]), asked(1, 1)), dim=1)
    pictures, lengths = noise(3, 3, 8, 8), (first.shape[1], second.shape[1])
    want = [
        theirs(t, pixel_values=p[None], image_attention_mask=sees(t, ours.place, EOS)).logits
        for t, p in ((first, pictures[:2]), (second, pictures[2:]))
    ]
    packed = ours(torch.cat((first, second), dim=1), pictures, lengths=lengths).split(lengths, dim=1)
    for got, wanted in zip(packed, want, strict=True):
        check(got, wanted)
    for cut in range(1, lengths[0]):
        state, shown = ours.init_state(), int((first[:, :cut] == ours.place).sum())
        parts = (first[:, :cut], pictures[:shown]), (first[:, cut:], pictures[shown:2])
        check(torch.cat([ours(t, p if len(p) else None, state) for t, p in parts], dim=1), want[0])


@torch.no_grad()
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    text, pictures = asked(2, 1), noise(2, 3, 8, 8)
    given = {"pixel_values": pictures[None], "image_attention_mask": sees(text, ours.place, EOS)}
    told = theirs.generate(text, **given, max_new_tokens=32, do_sample=False, pad_token_id=0, eos_token_id=999)
    state = ours.init_state()
    logits = ours(text, pictures, state)[:, -1]
    assert goes_on(ours, logits, state) == told[0, text.shape[1] :].tolist()


@torch.no_grad()
@pytest.mark.parametrize("instructed", [True, False])
def test_idefics_answers_about_pictures(instructed: bool, tmp_path: Path) -> None:
    added = "<fake_token_around_image>", "<image>", *([END] if instructed else ())
    fast = vocabulary(tmp_path)
    fast.add_special_tokens({"additional_special_tokens": list(added)})
    fast.save_pretrained(tmp_path)
    case = sized(CASES["idefics, resampled"], len(fast) - len(added), additional_vocab_size=len(added))
    theirs = saved(case, tmp_path)
    prepare = hf.IdeficsImageProcessorPil(image_size=8)
    prepare.save_pretrained(tmp_path)
    ours, (first, second, third) = mmworld.load(tmp_path), (picture(1), picture(2, 9, 30), picture(3))
    end = END if instructed else ""
    prompt: list[Any] = ["User:", to_image(first), f"what is this?{end}\nAssistant: two boys{end}\nUser:"]
    prompt += [to_image(second), to_image(third), f"and these?{end}\nAssistant:"]
    fast.pad_token = "</s>"
    processor = hf.IdeficsProcessor(prepare, fast, image_size=8)
    given = processor(text=[prompt], return_tensors="pt", add_end_of_utterance_token=False)
    conversation = (
        Message("user", (*seen(first), "what is this?")),
        Message("assistant", ("two boys",)),
        Message("user", (*seen(second, third), "and these?")),
    )
    assert says(ours, *conversation) == told(theirs, given, given["input_ids"].shape[1])


def to_image(x: torch.Tensor) -> Any:
    from PIL import Image

    return Image.fromarray(x.permute(1, 2, 0).numpy())


@torch.no_grad()
def test_as_many_pictures_as_places_and_frames_as_times() -> None:
    model = flamingo.tiny(4)
    films = torch.zeros(2, 5, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="a film of 5 frames, the model has learned 4"):
        model.see(films)
    with pytest.raises(ValueError, match="one row with 2 places for pictures: not 1 with 1"):
        model(torch.tensor([flamingo.TEXT]), films[:1, :4])


@torch.no_grad()
@pytest.mark.parametrize("frames", [0, 3])
def test_flamingo_goes_on_in_pieces(frames: int) -> None:
    model, n = flamingo.tiny(frames), max(frames, 1)
    text, films = torch.tensor([flamingo.TEXT]), torch.randn(2, n, 3, 8, 8, dtype=torch.float64)
    want, state = model(text, films), model.init_state()
    parts = [model(text[:, :3], films[:1], state), *(model.read(t, state)[:, None] for t in text[:, 3:4].split(1, 1))]
    parts += [model(text[:, 4:7], films[1:], state), model.read(text[:, 7:], state)[:, None]]
    check(torch.cat(parts, dim=1), want)


@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_openflamingo_s_names_are_read_with_what_it_saves_twice(kind: str) -> None:
    model = flamingo.tiny(3, kind)
    theirs = model.keymap.theirs(model.state_dict())
    stack = f"lang_encoder.{'model.decoder' if kind == 'opt' else 'model'}.layers."
    released = {f"{stack}1.gated_cross_attn_layer.{n}": x for n, x in LOOK.items()} | RESAMPLER
    assert {n: tuple(theirs[n].shape) for n in released} == released
    frozen = {n for n in theirs if n.startswith(stack) and ".gated" not in n}
    assert all(".decoder_layer." in n for n in frozen)
    copies = {n.replace(stack, "lang_encoder.old_decoder_blocks.").replace(".decoder_layer", ""): n for n in frozen}
    copies |= {f"lang_encoder.gated_cross_attn_layers.1.{n}": f"{stack}1.gated_cross_attn_layer.{n}" for n in LOOK}
    whole = {**theirs, **{copy: theirs[n] for copy, n in copies.items()}, "vision_encoder.proj": torch.ones(32, 8)}
    other = flamingo.tiny(3, kind)
    other.language.embedding.weight.data.zero_()
    other.keymap.check(other, whole, where="checkpoint")
    other.keymap.fill(other, whole, where="checkpoint")
    assert all(torch.equal(x, model.state_dict()[n]) for n, x in other.state_dict().items())


LOOK = {
    "attn.norm.weight": (24,),
    "attn.norm.bias": (24,),
    "attn.to_q.weight": (16, 24),
    "attn.to_kv.weight": (32, 32),
    "attn.to_out.weight": (24, 16),
    "attn_gate": (1,),
    "ff.0.weight": (24,),
    "ff.0.bias": (24,),
    "ff.1.weight": (96, 24),
    "ff.3.weight": (24, 96),
    "ff_gate": (1,),
}
RESAMPLER = {
    "perceiver.latents": (3, 32),
    "perceiver.frame_embs": (3, 32),
    "perceiver.layers.1.0.norm_media.weight": (32,),
    "perceiver.layers.1.0.norm_latents.bias": (32,),
    "perceiver.layers.1.0.to_q.weight": (16, 32),
    "perceiver.layers.1.0.to_kv.weight": (32, 32),
    "perceiver.layers.1.0.to_out.weight": (32, 16),
    "perceiver.layers.1.1.0.weight": (32,),
    "perceiver.layers.1.1.1.weight": (128, 32),
    "perceiver.layers.1.1.3.weight": (32, 128),
    "perceiver.norm.weight": (32,),
}
"""Shapes by the names in open_flamingo's helpers.py."""
