"""Whisper in pieces and word by word, against transformers'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import check, goes_on

from mmworld.models.zoo.parity.audio import CASES
from mmworld.models.zoo.parity.case import both, ids, noise
from mmworld.nn.state import KVState

CASE = CASES["whisper"]


@torch.no_grad()
def test_it_writes_in_pieces(tmp_path: Path) -> None:
    ours, theirs = both(CASE, tmp_path)
    text, mel, state = ids(7), noise(1, 30, 8), KVState()
    heard = ours.encode(mel)
    got = torch.cat((ours(text[:, :4], heard, state), ours(text[:, 4:], state=state)), dim=1)
    check(got, theirs(input_features=mel.mT, decoder_input_ids=text).logits)


@torch.no_grad()
def test_it_goes_on_as_the_reference_does(tmp_path: Path) -> None:
    ours, theirs = both(CASE, tmp_path)
    told, encoded = torch.tensor([[3]]), theirs.model.encoder(noise(1, 30, 8).mT)
    for _ in range(32):  # transformers' own loop asks for the ids of languages and tasks, which a tiny one has not
        scores = theirs(encoder_outputs=encoded, decoder_input_ids=told).logits[:, -1]
        told = torch.cat((told, scores.argmax(-1, keepdim=True)), dim=1)
    state = KVState()
    logits = ours(torch.tensor([[3]]), ours.encode(noise(1, 30, 8)), state)[:, -1]
    assert [3, *goes_on(ours, logits, state)] == told[0].tolist()


@torch.no_grad()
def test_more_than_it_learned_to_hear_is_refused(tmp_path: Path) -> None:
    ours, _ = both(CASE, tmp_path)
    with pytest.raises(ValueError, match="position 15, the model has learned 15"):
        ours.encode(torch.zeros(1, 32, 8))
