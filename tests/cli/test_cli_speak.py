"""mmworld speak and the call behind it, with tiny models of random weights, against transformers'."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

import mmworld
from mmworld.cli import command
from mmworld.errors import MediaError, UsageError
from mmworld.models.zoo.parity.audio import CASES
from mmworld.verbs.speak import Reader
from mmworld.weights.checkpoint import save_tensors

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
Capture = pytest.CaptureFixture[str]
LETTERS = " .,!?abcdefghijklmnopqrstuvwxyz"


def speaker(folder: Path, kind: str = "speecht5, speech") -> Any:
    """Of a text as many ids as letters, and one that ends it; of each at most 20 frames."""
    theirs = CASES[kind].build()
    theirs.speech_decoder_postnet.prob_out.bias.data.fill_(-30.0)
    theirs.config.max_text_positions = 12
    theirs.save_pretrained(folder)
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {x: i + 4 for i, x in enumerate(LETTERS)}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.post_processor = processors.TemplateProcessing("$0 </s>", special_tokens=[("</s>", 2)])
    core.save(str(folder / "tokenizer.json"))
    return theirs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("speecht5")
    theirs, vocoder = speaker(folder / "model"), CASES["speecht5_hifigan"].build()
    vocoder.save_pretrained(folder / "vocoder")
    np.save(folder / "voice.npy", np.linspace(-1, 1, 6, dtype=np.float32))
    return folder, theirs, vocoder


def flags(folder: Path, *, voice: str = "voice.npy") -> list[str]:
    return ["--model", str(folder / "model"), "--vocoder", str(folder / "vocoder"), "--voice", str(folder / voice)]


def named(folder: Path) -> dict[str, Any]:
    return {"model": folder / "model", "vocoder": folder / "vocoder", "voice": folder / "voice.npy"}


@torch.no_grad()
def test_a_sentence_sounds_as_the_reference_s(made: tuple[Path, Any, Any]) -> None:
    folder, theirs, vocoder = made
    ids = torch.tensor([[*(LETTERS.index(x) + 4 for x in "hello."), 2]])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        told = theirs.generate_speech(ids, torch.linspace(-1, 1, 6)[None], vocoder=vocoder)
    said = mmworld.speak("hello.", **named(folder), seed=5)
    assert said.rate == vocoder.config.sampling_rate
    assert len(told) > 100
    torch.testing.assert_close(said.samples, told, atol=2e-5, rtol=0)


def test_a_text_is_its_sentences_one_after_the_other(made: tuple[Path, Any, Any]) -> None:
    reader = Reader(**named(made[0]))
    alone = [torch.cat(list(reader.stream(x))) for x in ("one.", "two!", "three")]
    for got, want in zip(reader.stream(" one.  two!\n\nthree\n"), alone, strict=True):
        assert torch.equal(got, want)


@given(st.text(LETTERS.replace("?", "").replace("!", ""), max_size=80).filter(str.strip))
def test_what_is_long_is_read_in_parts_that_lose_nothing(made: tuple[Path, Any, Any], text: str) -> None:
    reader = Reader(**named(made[0]))
    parts = list(reader._parts(text.strip()))
    assert all(p.strip() and len(p) + 1 <= 12 for p in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def test_it_is_written_as_a_sound_file(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.wav"
    assert command(["speak", "one. two.", *flags(made[0]), "--seed", "3", "-o", str(target)]) == 0
    with wave.open(str(target)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (16_000, 1, 2)
        got = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    said = mmworld.speak("one. two.", **named(made[0]), seed=3).samples
    assert np.abs(got - said.numpy() * 32767).max() <= 0.5
    assert [p.name for p in target.parent.iterdir()] == ["a.wav"]


def test_standard_input_is_read(made: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a.wav", "-"), ("b.wav", "two\n")):
        monkeypatch.setattr("sys.stdin", io.StringIO("two\n"))
        assert command(["speak", text, *flags(made[0]), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_an_output_that_is_there_stays(made: tuple[Path, Any, Any], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.wav").write_text("mine")
    line = ["speak", "a", *flags(made[0]), "-o", str(tmp_path / "a.wav")]
    assert command(line) == 2
    assert "exists (--overwrite replaces it)" in capsys.readouterr().err
    assert command([*line, "--overwrite"]) == 0
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"


def test_what_is_missing_is_said(made: tuple[Path, Any, Any], tmp_path: Path, capsys: Capture) -> None:
    out = ["-o", str(tmp_path / "a.wav")]
    for line, words in (
        (
            [*flags(made[0])[:4], "a", *out],
            "whose voice? the model speaks in one of 6 floats (give a speaker embedding",
        ),
        ([*flags(made[0]), "a"], "where to?"),
        ([*flags(made[0]), "a", "-o", "a.mp3"], "-o 'a.mp3' is no .wav"),
        ([*flags(made[0]), " ", *out], "there is nothing to say"),
        ([*flags(made[0])[2:], "a", *out], "which model?"),
    ):
        assert command(["speak", *line]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_models_that_do_not_fit_are_refused(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    folder, how = made[0], named(made[0])
    speaker(tmp_path / "hears", "speecht5, voice")
    with pytest.raises(UsageError, match="speaks what it hears"):
        mmworld.speak("a", **how | {"model": tmp_path / "hears"})
    with pytest.raises(UsageError, match=r"a HifiGan cannot speak \(these can: .*SpeechT5"):
        mmworld.speak("a", **how | {"model": folder / "vocoder"})
    with pytest.raises(UsageError, match=r"a Speaker cannot make a spectrogram sound \(these can: HiFi-GAN"):
        mmworld.speak("a", **how | {"vocoder": folder / "model"})


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(6, np.float32), "all zero"),
        (np.full(6, np.nan, np.float32), "finite"),
        (np.ones(5, np.float32), r"shape \[5\], a voice of this model is 6 floats"),
        (np.ones((2, 3), np.float32), r"shape \[2, 3\]"),
        (np.ones(6, np.int64), "floats"),
        (np.array(["anna"] * 6, object), "only plain numbers"),
    ],
)
def test_what_is_no_voice_is_refused(
    array: Any, words: str, made: tuple[Path, Any, Any], tmp_path: Path, capsys: Capture
) -> None:
    np.save(tmp_path / "v.npy", array, allow_pickle=True)
    with pytest.raises(MediaError, match=words):
        mmworld.speak("a", **named(made[0]) | {"voice": tmp_path / "v.npy"})
    line = ["speak", "a", *flags(made[0], voice=str(tmp_path / "v.npy")), "-o", str(tmp_path / "a.wav")]
    assert command(line) == 4
    assert "v.npy" in capsys.readouterr().err
    assert not (tmp_path / "a.wav").exists()


def test_a_voice_is_read_from_either_kind_of_file(made: tuple[Path, Any, Any], tmp_path: Path) -> None:
    x, how = torch.from_numpy(np.load(made[0] / "voice.npy")), named(made[0])
    save_tensors({"voice": x[None]}, tmp_path / "v.safetensors")
    np.save(tmp_path / "v.npy", x[None].double().numpy())
    want = mmworld.speak("a", **how).samples
    for voice in (x, tmp_path / "v.npy", tmp_path / "v.safetensors"):
        assert torch.equal(mmworld.speak("a", **how | {"voice": voice}).samples, want)
    save_tensors({"a": x, "b": x}, tmp_path / "two.safetensors")
    for name in ("two.safetensors", "missing.npy", "missing.safetensors"):
        with pytest.raises(MediaError, match=name):
            mmworld.speak("a", **how | {"voice": tmp_path / name})
