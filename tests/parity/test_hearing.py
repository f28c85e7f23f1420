"""What models that hear are compared by, and SpeechT5's transcripts of any length."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import sound_file, sound_of, tone
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

import mmworld
from mmworld.errors import UsageError
from mmworld.models.message import Message
from mmworld.models.zoo.parity.audio import CASES
from mmworld.models.zoo.parity.case import Case, both
from mmworld.models.zoo.speecht5 import hearing
from mmworld.models.zoo.speecht5.stretches import BLOCK, cut
from mmworld.types import Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")


@given(sizes=st.lists(st.integers(0, 30_000), max_size=6), most=st.integers(3, 25_000), quiet=st.floats(0.0, 1.0))
def test_stretches_tile_a_sound(sizes: list[int], most: int, quiet: float) -> None:
    x = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(most))
    x[int(quiet * len(x)) : int(quiet * len(x)) + 4000] = 0
    parts = list(cut(x.split(sizes), most))
    assert torch.equal(torch.cat([x[:0], *parts]), x)
    assert all(0 < len(p) <= most for p in parts)


def test_a_sound_is_cut_where_it_is_quiet() -> None:
    x = torch.ones(30_000)
    x[24_000:26_000] = 0
    assert 24_000 < len(next(cut([x], 28_000))) <= 26_000 + BLOCK


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of stretches of half a second."""
    folder = tmp_path / "model"
    case = CASES["speecht5, text"]
    Case(case.config, case.model, case.sizes | {"max_text_positions": 6}, case.compare).build().save_pretrained(folder)
    hf.SpeechT5FeatureExtractor(do_normalize=True).save_pretrained(folder)
    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(50)}, unk_token="w3"))
    core.decoder = decoders.WordPiece()
    core.save(str(folder / "tokenizer.json"))
    monkeypatch.setattr(hearing, "SECONDS", 0.5)
    return mmworld.load(folder)


def test_a_transcript_is_that_of_its_stretches(listener: Any, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(sound_file(tone(1.3, 16_000), 16_000))
    made = list(mmworld.transcribe(tmp_path / "a.wav", model=listener))
    assert made[0].start == 0.0
    assert all(a.end == b.start for a, b in pairwise(made))
    assert made[-1].end == pytest.approx(1.3)
    assert all(c.end - c.start <= 0.5 and len(c.text.split()) == 6 for c in made)
    alone = mmworld.transcribe(tmp_path / "a.wav", model=listener, start=made[1].start, end=made[1].end)
    assert [c.text for c in alone] == [made[1].text]


def test_where_nobody_speaks_nothing_is_listened_to(listener: Any) -> None:
    x = torch.randn(7000, generator=torch.Generator().manual_seed(0)) * 0.1
    (late,) = listener.transcribe([x], quiet=lambda start, end: min(0.25, end - start))
    (alone,) = listener.transcribe([x[4000:]])
    assert (late.text, late.start, alone.start) == (alone.text, 0.25, 0.0)
    assert not list(listener.transcribe([x], quiet=lambda start, end: end - start))


def test_what_it_cannot_do_is_said(listener: Any) -> None:
    for how in ({"task": "translate"}, {"words": True}):
        with pytest.raises(UsageError, match="a Whisper does"):
            list(mmworld.transcribe(sound_file(tone(0.2, 16_000), 16_000), model=listener, **how))
    heard = Chunk(torch.zeros(4000, 1), 0.0, 0.25, "audio")
    with pytest.raises(UsageError, match="ask nothing"):
        listener.begin([Message("user", (heard, "Who speaks?"))])
    assert listener.begin([Message("user", (heard,))])[1].shape == (1, 50)


@torch.no_grad()
def test_a_sound_is_embedded_at_the_rate_that_the_model_takes(tmp_path: Path) -> None:
    _, theirs = both(CASES["clap, one crop"], tmp_path)
    extract = hf.ClapFeatureExtractor(feature_size=8, max_length_s=1, truncation="rand_trunc")
    extract.save_pretrained(tmp_path)
    wav = sound_file(tone(0.7, 48_000), 48_000)
    x = sound_of(wav, None)
    told = theirs.get_audio_features(**extract(x.numpy(), sampling_rate=48_000, return_tensors="pt")).pooler_output
    torch.testing.assert_close(mmworld.embed(wav, model=tmp_path), told, atol=1e-4, rtol=0)
