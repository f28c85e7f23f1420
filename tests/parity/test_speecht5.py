"""SpeechT5 word by word and frame by frame, against transformers'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from borrowed import check, goes_on

import mmworld
from mmworld.errors import CheckpointError
from mmworld.models.zoo.parity.audio import CASES
from mmworld.models.zoo.parity.case import both, ids, noise
from mmworld.nn.state import KVState
from mmworld.weights.checkpoint import save_tensors
from mmworld.weights.shards import Shards

HEARS, SPEAKS = CASES["speecht5, text"], CASES["speecht5, speech"]


@torch.no_grad()
def test_it_writes_in_pieces(tmp_path: Path) -> None:
    ours, theirs = both(HEARS, tmp_path)
    text, sound, state = ids(7), noise(1, 100), KVState()
    got = torch.cat((ours(text[:, :4], ours.encode(sound), state), ours(text[:, 4:], state=state)), dim=1)
    check(got, theirs(input_values=sound, decoder_input_ids=text).logits)


@torch.no_grad()
def test_it_writes_what_the_reference_writes(tmp_path: Path) -> None:
    ours, theirs = both(HEARS, tmp_path)
    told = theirs.generate(noise(1, 100), max_new_tokens=32, do_sample=False)[0, 1:]
    state = KVState()
    logits = ours(torch.tensor([[2]]), ours.encode(noise(1, 100)), state)[:, -1]
    assert goes_on(ours, logits, state) == told.tolist()


def reticent(case: Any, folder: Path, ends: float) -> tuple[Any, Any]:
    """Both, whose first frames are less likely to be the last, with about this log-odds."""
    ours, theirs = both(case, folder)
    for head in (theirs.speech_decoder_postnet.prob_out, ours.postnet.ends):
        head.weight.data.neg_()
        head.bias.data.fill_(ends)
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("ends", [-30.0, -0.05])
def test_it_says_what_the_reference_says_with_the_same_seed(ends: float, seed: int, tmp_path: Path) -> None:
    ours, theirs = reticent(SPEAKS, tmp_path, ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        told = theirs.generate_speech(ids(5), noise(1, 6))
    said = ours.speak(ids(5), noise(6), seed)
    assert len(told) == 100 if ends == -30.0 else 2 < len(told) < 100
    check(said, told)
    assert torch.equal(ours.speak(ids(5), noise(6), seed), said)
    assert not torch.equal(ours.speak(ids(5), noise(6), seed + 1)[:4], said[:4])


@torch.no_grad()
def test_it_says_no_more_than_there_are_places(tmp_path: Path) -> None:
    case = replace(SPEAKS, sizes=SPEAKS.sizes | {"max_speech_positions": 12, "max_text_positions": 9})
    ours, _ = reticent(case, tmp_path, -30.0)
    assert len(ours.speak(ids(9), noise(6))) == 2 * 12
    with pytest.raises(ValueError, match="10 ids, the model has learned 9 places"):
        ours.speak(ids(10), noise(6))


@torch.no_grad()
def test_a_sound_without_a_step_is_refused(tmp_path: Path) -> None:
    ours, theirs = both(HEARS, tmp_path)
    n = ours.encoder.front.convs.shortest
    assert theirs(noise(1, n), decoder_input_ids=ids(3)).encoder_last_hidden_state.shape[1] == 1
    assert ours.encode(noise(1, n)).shape[1] == 1
    with pytest.raises(ValueError, match=f"{n - 1} samples, the shortest sound that can be heard has {n}"):
        ours.encode(noise(1, n - 1))


def test_norms_of_weights_are_read_as_they_were_released(tmp_path: Path) -> None:
    ours, _ = both(HEARS, tmp_path)
    whole = dict(Shards(tmp_path))
    (tmp_path / "model.safetensors.index.json").unlink()
    for now, then in (("original0", "weight_g"), ("original1", "weight_v")):
        whole = {n.replace(f"parametrizations.weight.{now}", then): x for n, x in whole.items()}
    whole["speecht5.encoder.prenet.pos_sinusoidal_embed.weights"] = torch.zeros(3)
    assert any(n.endswith("conv.weight_g") for n in whole)
    save_tensors(whole, tmp_path / "model.safetensors")
    again = mmworld.load(tmp_path).state_dict()
    assert all(torch.equal(again[n], x) for n, x in ours.state_dict().items())


def test_an_architecture_that_is_not_built_is_named(tmp_path: Path) -> None:
    replace(HEARS, model="SpeechT5Model").build().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="SpeechT5Model, must be one of SpeechT5ForSpeechToText"):
        mmworld.load(tmp_path)
