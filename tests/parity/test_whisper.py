"""Whisper hears and writes what transformers' does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from borrowed import Case, both, check, check_saved

from mmworld.nn.state import KVState

SIZES = {"vocab_size": 60, "d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4}
SIZES |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 40, "num_mel_bins": 8}
SIZES |= {"max_source_positions": 15, "max_target_positions": 40, "pad_token_id": 0, "bos_token_id": 1}
SIZES |= {"eos_token_id": None, "decoder_start_token_id": 3, "begin_suppress_tokens": None, "suppress_tokens": None}
CASE = Case("Whisper", "WhisperForConditionalGeneration", SIZES, unread="proj_out")


def mel() -> torch.Tensor:
    return torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_it_hears_and_writes_what_the_reference_does(tmp_path: Path) -> None:
    ours, theirs = both(CASE, tmp_path)
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(1))
    told = theirs(input_features=mel().mT, decoder_input_ids=ids)
    heard = ours.encode(mel())
    check(heard, told.encoder_last_hidden_state)
    check(ours(ids, heard), told.logits)
    state = KVState()
    check(torch.cat((ours(ids[:, :4], heard, state), ours(ids[:, 4:], state=state)), dim=1), told.logits)


@torch.no_grad()
def test_it_goes_on_as_the_reference_does(tmp_path: Path) -> None:
    ours, theirs = both(CASE, tmp_path)
    told = torch.tensor([[3]])
    encoded = theirs.model.encoder(mel()[:1].mT)
    for _ in range(32):  # transformers' own loop asks for the ids of languages and tasks, which a tiny one has not
        scores = theirs(encoder_outputs=encoded, decoder_input_ids=told).logits[:, -1]
        told = torch.cat((told, scores.argmax(-1, keepdim=True)), dim=1)
    state, said = KVState(), [3]
    logits = ours(torch.tensor([said]), ours.encode(mel()[:1]), state)[:, -1]
    while len(said) < 33:
        said.append(int(logits.argmax()))
        logits = ours.read(torch.tensor([[said[-1]]]), state)
    assert said == told[0].tolist()


def test_what_is_saved_the_reference_reads_whole(tmp_path: Path) -> None:
    check_saved(CASE, tmp_path)


@torch.no_grad()
def test_more_than_it_learned_to_hear_is_refused(tmp_path: Path) -> None:
    ours, _ = both(CASE, tmp_path)
    with pytest.raises(ValueError, match="position 15, the model has learned 15"):
        ours.encode(torch.zeros(1, 32, 8))
