"""Whisper's transcripts of long sounds are those of transformers' `generate` on the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from clips import sound_of
from torch import Tensor
from torch.nn import functional as F

import mmworld
from mmworld.errors import UsageError
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.modalities.audio.windows import Windows
from mmworld.models.message import Message
from mmworld.models.zoo.whisper.decoding import Decoding
from mmworld.models.zoo.whisper.longform import transcribe
from mmworld.models.zoo.whisper.marks import Marks, Said
from mmworld.text.pretrained import Pretrained
from mmworld.types import Caption, Chunk

hf = pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
whispers = pytest.importorskip("whispers")
reference = pytest.importorskip("transformers.models.whisper.tokenization_whisper")
WINDOW = 2 * whispers.PLACES
SEEDS = (0, 3, 7)
Make = Callable[[int], tuple[Any, Any]]
PLAIN = Decoding(temperatures=(0.0,), compression=None, log_p=None, no_speech=None, previous=False)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Ours and theirs of a seed."""

    @lru_cache(maxsize=8)
    def make(seed: int) -> tuple[Any, Any]:
        folder = tmp_path_factory.mktemp("whisper")
        theirs = whispers.whisper(folder, seed)
        return mmworld.load(folder), theirs

    return make


class Cut:
    """Windows of frames that are there, silent as transformers' are."""

    length = WINDOW

    def __init__(self, mel: Tensor) -> None:
        self.mel = mel

    def window(self, at: int) -> tuple[Tensor, int]:
        part = self.mel[at : at + WINDOW]
        return F.pad(part, (0, 0, 0, WINDOW - len(part))), len(part)


def frames(n: int, seed: int) -> Tensor:
    return torch.randn(n, 80, generator=torch.Generator().manual_seed(seed))


def told(theirs: Any, mel: Tensor, **options: Any) -> list[dict[str, Any]]:
    """The segments of transformers'."""
    given = {"task": "transcribe", "condition_on_prev_tokens": False} | options
    mask = torch.ones(1, len(mel), dtype=torch.long)
    made = theirs.generate(mel.mT[None], attention_mask=mask, return_timestamps=True, return_segments=True, **given)
    end = theirs.generation_config.eos_token_id
    for segment in made["segments"][0]:
        segment["words"] = [i for i in segment["tokens"].tolist() if i < end]
    return made["segments"][0]


def check(ours: Any, got: list[Caption], segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether ours are theirs; returns those of theirs that have words in them."""
    want = [s for s in segments if ours.tokenizer.decode(s["words"]).strip()]
    assert want
    assert [c.text for c in got] == [ours.tokenizer.decode(s["words"]).strip() for s in want]
    times = [(float(s["start"]), float(s["end"])) for s in want]
    torch.testing.assert_close([(c.start, c.end) for c in got], times, atol=1e-6, rtol=0)
    return want


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy(seed: int, both: Make) -> None:
    (ours, theirs), mel = both(seed), frames(230, seed)
    got = list(transcribe(ours, Cut(mel), PLAIN))
    check(ours, got, told(theirs, mel))
    spoken = theirs.detect_language(mel.mT[None], num_segment_frames=WINDOW)
    assert {c.language for c in got} == {code for code, i in ours.marks.languages.items() if i == int(spoken)}


@pytest.mark.parametrize("seed", SEEDS)
def test_told_of_what_went_before(seed: int, both: Make) -> None:
    (ours, theirs), mel = both(seed), frames(230, seed)
    how = Decoding(temperatures=(0.0,), compression=None, log_p=None, no_speech=None, language="german")
    want = told(theirs, mel, condition_on_prev_tokens=True, language="de", temperature=0.0)
    check(ours, list(transcribe(ours, Cut(mel), how)), want)


@pytest.mark.parametrize("seed", SEEDS)
def test_beams(seed: int, both: Make) -> None:
    """Scores are of what may come, as in OpenAI's own decoding; a search ends when its beams have."""
    (ours, theirs), mel = both(seed), frames(230, seed)
    how = Decoding(**{**vars(PLAIN), "width": 3, "task": "translate"})
    given = {"num_beams": 3, "length_penalty": 1.0, "early_stopping": True, "renormalize_logits": True}
    check(ours, list(transcribe(ours, Cut(mel), how)), told(theirs, mel, task="translate", **given))


@pytest.mark.parametrize("seed", SEEDS)
def test_words_have_their_times(seed: int, both: Make) -> None:
    (ours, theirs), mel = both(seed), frames(230, seed)
    got = list(transcribe(ours, Cut(mel), Decoding(**{**vars(PLAIN), "words": True, "language": "en"})))
    want = check(ours, got, told(theirs, mel, language="en", return_token_timestamps=True))
    fake = SimpleNamespace(
        decode=lambda ids, **_: ours.tokenizer.decode(ids), eos_token_id=ours.marks.end, language=None
    )
    for caption, segment in zip(got, want, strict=True):
        first, last = segment["idxs"]
        offset = float(segment["token_timestamps"][0] - segment["result"]["token_timestamps"][first])
        times = segment["result"]["token_timestamps"].tolist()
        spans = [
            (offset + (times[k - 1] if k > 3 else 0.0), offset + times[k])
            for k, i in zip(range(first, last), segment["tokens"].tolist(), strict=True)
            if i < ours.marks.end
        ]
        words, _, places = reference._combine_tokens_into_words(fake, segment["words"], "english")
        assert [w.text for w in caption.words] == words
        wanted = [(spans[at[0]][0], spans[at[-1]][1]) for at in places]
        torch.testing.assert_close([(w.start, w.end) for w in caption.words], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("log_p", [-0.5, -1.5, -3.0])
@pytest.mark.parametrize("no_speech", [0.0001, 0.9])
def test_unlikely_texts_are_tried_again_or_left_out(log_p: float, no_speech: float, both: Make) -> None:
    """The second try, at hardly any temperature, takes the likeliest ids where the first searched with beams."""
    (ours, theirs), mel = both(3), frames(230, 2)
    how = Decoding(
        temperatures=(0.0, 1e-4),
        compression=None,
        log_p=log_p,
        no_speech=no_speech,
        previous=False,
        width=2,
    )
    given = {"num_beams": 2, "length_penalty": 1.0, "early_stopping": True, "renormalize_logits": True}
    limits = {"logprob_threshold": log_p, "no_speech_threshold": no_speech, "temperature": (0.0, 1e-4)}
    got = list(transcribe(ours, Cut(mel), how))
    want = theirs.generate(
        mel.mT[None], return_timestamps=True, return_segments=True, task="transcribe", **given, **limits
    )["segments"][0]
    end = ours.marks.end
    texts = [ours.tokenizer.decode([i for i in s["tokens"].tolist() if i < end]).strip() for s in want]
    assert [c.text for c in got] == [t for t in texts if t]


def test_what_repeats_itself_is_tried_again(both: Make) -> None:
    (ours, _), mel = both(0), frames(100, 0)
    one = next(iter(transcribe(ours, Cut(mel), PLAIN)))
    again = Decoding(**{**vars(PLAIN), "temperatures": (0.0, 1.0), "compression": 0.1})
    assert next(iter(transcribe(ours, Cut(mel), again))).score != one.score


def test_a_second_of_real_sound(shared_data: Path, both: Make) -> None:
    ours, theirs = both(0)
    pieces = sound_of(shared_data / "media/audio/jfk.flac", end=1.0).split(4096)
    extractor = hf.WhisperFeatureExtractor(chunk_length=1)
    mel = extractor(torch.cat(pieces).numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"][0].mT
    heard, _ = Windows(pieces, length=WINDOW).window(0)  # after it silence, where theirs mirrors the end
    torch.testing.assert_close(heard[:-1], mel[:-1], atol=1e-3, rtol=0)
    first = next(transcribe(ours, Windows(pieces, length=WINDOW), PLAIN))
    check(ours, [first], told(theirs, mel)[:1])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_asked_as_an_assistant(seed: int, both: Make) -> None:
    (ours, theirs), sound = both(seed), torch.randn(9000, 1, generator=torch.Generator().manual_seed(seed)) * 0.1
    extractor = hf.WhisperFeatureExtractor(chunk_length=1)
    mel = extractor(sound[:, 0].numpy(), sampling_rate=16_000, return_tensors="pt")["input_features"]
    given = {"task": "transcribe", "return_timestamps": False, "force_unique_generate_call": True}
    made = theirs.generate(mel, max_new_tokens=32, **given)[0, 4:].tolist()
    shown = Message("user", (Chunk(sound, 0.0, 9000 / 16_000, "audio"),))
    (got,) = decode(ours, *ours.begin([shown]), stop=Stop(32))
    assert list(got.ids) == [i for i in made if i != ours.marks.end]
    begun = ours.begin([shown, Message("assistant", ("ask not",))])
    assert not torch.equal(begun[1], ours.begin([shown])[1])
    with pytest.raises(UsageError, match="ask nothing"):
        ours.begin([shown, Message("user", ("who speaks?",))])


@torch.no_grad()
def test_how_likely_each_language_is(both: Make) -> None:
    (ours, theirs), mel = both(0), frames(WINDOW, 0)
    p = ours.languages(ours.encode(mel[None]))
    start = theirs.generation_config.decoder_start_token_id
    logits = theirs(mel.mT[None], decoder_input_ids=torch.tensor([[start]])).logits[0, -1]
    ids = theirs.generation_config.lang_to_id
    want = logits[list(ids.values())].softmax(-1)
    torch.testing.assert_close([p[token.strip("<|>")] for token in ids], want.tolist(), atol=1e-5, rtol=0)
    assert list(p.values()) == sorted(p.values(), reverse=True)


def test_a_model_of_english_alone(tmp_path: Path) -> None:
    alone = {"is_multilingual": False, "lang_to_id": None, "task_to_id": None}
    theirs, mel = whispers.whisper(tmp_path, 3, alone), frames(230, 3)
    ours = mmworld.load(tmp_path)
    got = list(transcribe(ours, Cut(mel), Decoding(**{**vars(PLAIN), "language": "English"})))
    check(ours, got, told(theirs, mel, task=None))
    assert {c.language for c in got} == {"en"}
    for how, why in ((Decoding(language="de"), "no language 'de'"), (Decoding(task="translate"), "does not translate")):
        with pytest.raises(UsageError, match=why):
            next(iter(transcribe(ours, Cut(mel), how)))


def test_what_the_files_do_not_say_the_vocabulary_does(tmp_path: Path) -> None:
    whispers.whisper(tmp_path)
    whole = mmworld.load(tmp_path).marks
    names = ("lang_to_id", "task_to_id", "no_timestamps_token_id", "prev_sot_token_id", "decoder_start_token_id")
    whispers.whisper(tmp_path / "less", said=dict.fromkeys(names) | {"decoder_start_token_id": whole.start})
    less = mmworld.load(tmp_path / "less").marks
    assert (less.languages, less.tasks) == (whole.languages, dict(sorted(whole.tasks.items())))
    assert (less.silent, less.previous, less.start, less.end) == (whole.silent, whole.previous, whole.start, whole.end)


def test_a_vocabulary_as_it_was_released_says_it_all(shared_data: Path, tmp_path: Path) -> None:
    """Without a generation_config.json: the ids are those that released ones have."""
    theirs = whispers.whisper(tmp_path, 0, vocab_size=51865)
    for name in ("tokenizer.json", "generation_config.json"):
        (tmp_path / name).unlink()
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("decoder_start_token_id", "eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
        config.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(shared_data / "tokenizers" / "whisper" / "multilingual.tiktoken", tmp_path)
    ours = mmworld.load(tmp_path)
    marks, core = ours.marks, ours.tokenizer
    assert (marks.start, marks.end, marks.silent, marks.previous) == (50258, 50257, 50363, 50361)
    assert (marks.languages["en"], marks.languages["su"], len(marks.languages)) == (50259, 50357, 99)
    assert marks.tasks == {"transcribe": 50359, "translate": 50358}
    assert marks.never == tuple(range(50258, 50363))
    assert marks.first == (220, 50257)
    mel = frames(2 * WINDOW, 0)
    given = {"decoder_start_token_id": 50258, "eos_token_id": 50257, "bos_token_id": 50257, "pad_token_id": 50257}
    given |= {"lang_to_id": {f"<|{code}|>": i for code, i in marks.languages.items()}, "task_to_id": marks.tasks}
    given |= {"no_timestamps_token_id": 50363, "suppress_tokens": list(marks.never), "max_length": whispers.POSITIONS}
    theirs.generation_config = hf.GenerationConfig(**given, begin_suppress_tokens=list(marks.first))
    assert core.decode(core.encode(" ask not")) == " ask not"
    check(ours, list(transcribe(ours, Cut(mel), PLAIN)), told(theirs, mel))


def test_the_released_vocabulary_of_english_alone_asks_for_no_language(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "tokenizers" / "whisper" / "gpt2.tiktoken", tmp_path)
    vocabulary = Pretrained.load(tmp_path)
    assert vocabulary is not None
    assert Marks.read(Said(), vocabulary).begin(None, "transcribe", times=False) == [50257, 50362]


def test_unknown_languages_and_tasks_are_refused(tmp_path: Path) -> None:
    whispers.whisper(tmp_path)
    ours = mmworld.load(tmp_path)
    for how, why in ((Decoding(language="elvish"), "no language 'elvish'"), (Decoding(task="sing"), "no task 'sing'")):
        with pytest.raises(UsageError, match=why):
            next(iter(transcribe(ours, Cut(frames(100, 0)), how)))
    ours = mmworld.load(tmp_path)
    ours.tokenizer = None
    with pytest.raises(UsageError, match="no vocabulary"):
        next(iter(transcribe(ours, Cut(frames(100, 0)), PLAIN)))


def test_what_is_never_said_may_stand_in_the_config(tmp_path: Path) -> None:
    """Where it stood before there was a generation_config.json."""
    whispers.whisper(tmp_path, 0, {"suppress_tokens": None, "begin_suppress_tokens": None})
    config = json.loads((tmp_path / "config.json").read_text())
    never = {"suppress_tokens": [5, 9], "begin_suppress_tokens": [7]}
    (tmp_path / "config.json").write_text(json.dumps(config | never))
    said = mmworld.load(tmp_path).said
    assert (said.suppress_tokens, said.begin_suppress_tokens) == ((5, 9), (7,))
