"""Language models that see through a projection: packed, word by word, and under the names of later versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import check, goes_on
from safetensors.torch import load_file, save_file

import mmworld
from mmworld.models.zoo.parity.case import Case, both, noise
from mmworld.models.zoo.parity.joint import PROJECTED, asked

SEEN = 4
"""Tokens of a picture."""


@torch.no_grad()
@pytest.mark.parametrize("case", PROJECTED.values(), ids=PROJECTED)
def test_it_reads_texts_with_pictures_packed(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    texts, pictures = [asked(n, SEEN) for n in (2, 1, 0)], noise(3, 3, 8, 8)
    shown = pictures[:2], pictures[2:], None
    lengths = tuple(t.shape[1] for t in texts)
    packed = ours(torch.cat(texts, dim=1), pictures, lengths=lengths).split(lengths, dim=1)
    for text, seen, got in zip(texts, shown, packed, strict=True):
        check(got, theirs(text, pixel_values=seen).logits)


@torch.no_grad()
@pytest.mark.parametrize("case", PROJECTED.values(), ids=PROJECTED)
def test_it_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    text, pictures = asked(1, SEEN), noise(1, 3, 8, 8)
    told = theirs.generate(text, pixel_values=pictures, max_new_tokens=32, do_sample=False, pad_token_id=0)
    state = ours.init_state()
    logits = ours(text, pictures, state)[:, -1]
    assert goes_on(ours, logits, state) == told[0, text.shape[1] :].tolist()


@torch.no_grad()
def test_pictures_fill_their_places(tmp_path: Path) -> None:
    ours, _ = both(PROJECTED["llava"], tmp_path)
    with pytest.raises(ValueError, match="the text has 8 places for tokens of what it shows, which gives 4"):
        ours(asked(2, SEEN), noise(1, 3, 8, 8))


ELSEWHERE = {
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
    "vision_tower.": "model.vision_tower.vision_model.",
    "multi_modal_projector.": "model.multi_modal_projector.",
}


def test_the_names_of_later_versions_are_read(tmp_path: Path) -> None:
    ours, _ = both(PROJECTED["llava"], tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    whole = {n: x for path in tmp_path.glob("model-*.safetensors") for n, x in load_file(path).items()}
    renamed = {to + n.removeprefix(at): x for n, x in whole.items() for at, to in ELSEWHERE.items() if n.startswith(at)}
    assert len(renamed) == len(whole)
    save_file(renamed, tmp_path / "model.safetensors")
    again = mmworld.load(tmp_path)
    assert all(torch.equal(x, ours.state_dict()[n]) for n, x in again.state_dict().items())
