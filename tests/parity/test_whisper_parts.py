"""The parts of Whisper's decoding against transformers': the rule of times, stretches, alignment, words."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mmworld.generate.rules import Prefix
from mmworld.models.zoo.whisper.longform import stretches
from mmworld.models.zoo.whisper.marks import Times
from mmworld.models.zoo.whisper.timing import _median, warp, words

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
from transformers import WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor
from transformers.models.whisper import generation_whisper, tokenization_whisper
from whispers import vocabulary

END, ZERO, SIZE = 20, 25, 46
"""Of a tiny vocabulary: words, the end, marks, twenty times."""
CORE = vocabulary()


@given(
    texts=st.lists(st.lists(st.integers(0, SIZE - 1), min_size=0, max_size=6), min_size=3, max_size=3),
    latest=st.none() | st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_times_come_as_the_reference_lets_them(texts: list[list[int]], latest: int | None, seed: int) -> None:
    n = min(map(len, texts))
    texts = [t[:n] for t in texts]
    logits = torch.randn(3, SIZE, generator=torch.Generator().manual_seed(seed)) * 3
    said = SimpleNamespace(no_timestamps_token_id=ZERO - 1, eos_token_id=END, bos_token_id=END)
    if latest is not None:
        said.max_initial_timestamp_index = latest
    theirs = WhisperTimeStampLogitsProcessor(said, begin_index=1)
    told = theirs(torch.tensor([[7, *t] for t in texts]), logits)
    assert torch.equal(Times(END, ZERO, latest)([Prefix((), t) for t in texts], logits), told)


@st.composite
def said(draw: st.DrawFn) -> list[int]:
    """Ids as the rule lets them come."""
    ids = [ZERO + (now := draw(st.integers(0, 3)))]
    for _ in range(draw(st.integers(0, 4))):
        ids += draw(st.lists(st.integers(0, END - 1), min_size=1, max_size=3))
        if draw(st.booleans()):
            now += draw(st.integers(1, 4))
            ids += [ZERO + now] * draw(st.integers(1, 2))
            if ids[-2] < ZERO:
                break
    return ids


@given(ids=said(), n=st.integers(1, 100))
def test_stretches_are_the_reference_s(ids: list[int], n: int) -> None:
    assume(int(n * 0.01 / 0.02) == n // 2)  # the reference's quotient of floats may fall short of a whole step
    parts, step = stretches(ids, ZERO, n)
    theirs, offset = WhisperForConditionalGeneration._retrieve_segment(
        torch.tensor(ids),
        [{}],
        time_offset=[0.0],
        timestamp_begin=ZERO,
        seek_num_frames=[n],
        time_precision=0.02,
        time_precision_features=0.01,
        input_stride=2,
        prev_idx=0,
        idx=0,
        return_token_timestamps=False,
        decoder_input_ids=torch.zeros(1, 0),
    )
    assert step == offset
    for part, segment in zip(parts, theirs, strict=True):
        assert (part.start, part.end) == pytest.approx((float(segment["start"]), float(segment["end"])))
        whole = segment["tokens"].tolist()
        assert ids[part.first : part.last] in (whole, whole[:-1])  # the second time of the last pair is of no stretch


@given(rows=st.integers(1, 12), columns=st.integers(1, 20), seed=st.integers(0, 999))
def test_the_path_is_the_reference_s(rows: int, columns: int, seed: int) -> None:
    cost = np.random.default_rng(seed).normal(size=(rows, columns)).round(1)  # rounded: some ways are as good
    for ours, theirs in zip(warp(cost), generation_whisper._dynamic_time_warping(cost), strict=True):
        assert ours.tolist() == theirs.tolist()


@given(rows=st.integers(1, 4), columns=st.integers(1, 20), seed=st.integers(0, 999))
def test_attention_is_smoothed_as_in_the_reference(rows: int, columns: int, seed: int) -> None:
    x = torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(_median(x), generation_whisper._median_filter(x[None], 7)[0])


@given(text=st.text(alphabet="ab ,.\"'(¿)é好🙂\n", max_size=24) | st.text(max_size=12), spaced=st.booleans())
def test_words_are_the_reference_s(text: str, spaced: bool) -> None:
    ids = CORE.encode(text).ids

    def decode(some: list[int], **_: object) -> str:
        return str(CORE.decode(some, skip_special_tokens=False))

    theirs = SimpleNamespace(decode=decode, eos_token_id=10_000, language=None)
    language = "english" if spaced else "japanese"
    want, _, places = tokenization_whisper._combine_tokens_into_words(theirs, ids, language)
    got = words(decode, ids, [(float(k), k + 1.0) for k in range(len(ids))], "en" if spaced else "ja")
    assert [w.text for w in got] == want
    assert [(w.start, w.end) for w in got] == [(float(at[0]), at[-1] + 1.0) for at in places]
