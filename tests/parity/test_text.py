"""Text models packed, in pieces and word by word, against transformers'."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from borrowed import LENGTHS, check, goes_on, hf

from mmworld.config import pick
from mmworld.generate.beam import Beam
from mmworld.generate.decode import complete
from mmworld.generate.samplers import GREEDY, Sample
from mmworld.generate.stop import Stop
from mmworld.models.zoo.parity.case import Case, both, ids
from mmworld.models.zoo.parity.text import DECODERS, ENCODERS, REWRITERS
from mmworld.nn.state import KVState
from mmworld.nn.streams import Streams
from mmworld.text.llama import LlamaConfig


@torch.no_grad()
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoder_reads_packed_and_in_pieces(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    texts = [ids(n, n) for n in LENGTHS]
    expected = [theirs(t).logits for t in texts]
    packed = ours(torch.cat(texts, dim=1), lengths=LENGTHS).split(LENGTHS, dim=1)
    for got, want in zip(packed, expected, strict=True):
        check(got, want)
    state = ours.init_state()
    check(torch.cat([ours(part, state) for part in texts[0].split([3, 1, 3], dim=1)], dim=1), expected[0])


@torch.no_grad()
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoder_goes_on_as_the_reference_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    told = theirs.generate(ids(5), max_new_tokens=32, do_sample=False, pad_token_id=0)[0, 5:]
    state = ours.init_state()
    logits = ours.read(ids(5), state)
    assert goes_on(ours, logits, state) == told.tolist()


@torch.no_grad()
@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_texts_of_any_lengths_go_on_side_by_side_as_each_alone(case: Case, tmp_path: Path) -> None:
    """The scores of each step in float64, also after one has left; then whole texts, ids and all."""
    ours = both(case, tmp_path)[0].double()
    texts, goes = [ids(n, n) for n in (9, 1, 4, 4)], ids(16, 7).view(4, 4)
    alone = [ours.init_state() for _ in texts]
    for text, state in zip(texts, alone, strict=True):
        ours.read(text, state)
    together = Streams([s.fork() for s in alone])
    for step in goes[:, :3].split([1, 2], dim=1):
        want = torch.cat([ours.read(i[None], s) for i, s in zip(step, alone, strict=True)])
        torch.testing.assert_close(ours.read(step, together), want, atol=1e-12, rtol=1e-10)
    together.select(torch.tensor([3, 0, 0]))
    want = torch.cat([ours.read(goes[i : i + 1, 3:], alone[i].fork()) for i in (3, 0, 0)])
    torch.testing.assert_close(ours.read(goes[[3, 0, 0], 3:], together), want, atol=1e-12, rtol=1e-10)
    ours.tokenizer = SimpleNamespace(ends=range(12), decode=lambda ids: " ".join(map(str, ids)))  # at different times
    prompts = [text[0].tolist() for text in texts]
    for way in (GREEDY, Beam(2), Sample(seed=2)):
        each = [complete(ours, [prompt], way, Stop(12))[0] for prompt in prompts]
        got = complete(ours, prompts, way, Stop(12))
        assert [g.ids for g in got] == [g.ids for g in each]
        assert [g.score for g in got] == pytest.approx([g.score for g in each])


@pytest.mark.parametrize("said", [{}, {"sliding_window": None}, {"sliding_window": 8}], ids=str)
@pytest.mark.parametrize("kind", ["mistral", "llama", "qwen2"])
def test_a_window_that_is_not_spoken_of_is_the_reference_s(kind: str, said: dict[str, Any]) -> None:
    """Only a Mistral's config means one by saying nothing."""
    theirs = hf.AutoConfig.for_model(kind, **said)
    window = getattr(theirs, "sliding_window", None) if kind == "mistral" else None
    assert pick(LlamaConfig, {"model_type": kind, **said}).window == window


@torch.no_grad()
@pytest.mark.parametrize("case", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_reads_packed_texts_of_two_types(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    base = getattr(theirs, "bert", theirs)
    texts = [ids(n, n) for n in LENGTHS]
    types = [(t > 20).long() for t in texts]
    packed = ours(torch.cat(texts, dim=1), torch.cat(types, dim=1), LENGTHS).split(LENGTHS, dim=1)
    for text, kind, got in zip(texts, types, packed, strict=True):
        check(got, base(text, token_type_ids=kind).last_hidden_state)
    missing = ours.pool if ours.pooler is None else ours.logits if ours.head is None else None
    if missing is not None:
        with pytest.raises(ValueError, match=rf"{case.model} has no"):
            missing(packed[0])


@torch.no_grad()
@pytest.mark.parametrize("case", REWRITERS.values(), ids=REWRITERS)
def test_an_encoder_and_decoder_read_packed(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    asked = (150, 9, 4)  # the first is longer than the table of distances
    questions, answers = [ids(n) for n in asked], [ids(n, 1) for n in LENGTHS]
    seen = ours.encode(torch.cat(questions, dim=1), asked)
    packed = ours(torch.cat(answers, dim=1), seen, None, LENGTHS, asked).split(LENGTHS, dim=1)
    for question, answer, got in zip(questions, answers, packed, strict=True):
        check(got, theirs(input_ids=question, decoder_input_ids=answer).logits)


@torch.no_grad()
@pytest.mark.parametrize("case", REWRITERS.values(), ids=REWRITERS)
def test_an_answer_goes_on_as_the_reference_s_does(case: Case, tmp_path: Path) -> None:
    ours, theirs = both(case, tmp_path)
    told = theirs.generate(ids(9), max_new_tokens=32, do_sample=False)[0, 1:]
    state = KVState()
    logits = ours(torch.tensor([[ours.config.decoder_start_token_id]]), ours.encode(ids(9)), state)[:, -1]
    assert goes_on(ours, logits, state) == told.tolist()
