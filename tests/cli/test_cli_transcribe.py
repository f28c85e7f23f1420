"""mmworld transcribe, with a tiny Whisper of random weights: files, formats, words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import clip, sound_file, tone

from mmworld.cli import command

whispers = pytest.importorskip("whispers", reason="the extra 'dev' is not installed")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("whisper")
    whispers.whisper(folder, 7)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.wav").write_bytes(sound_file(tone(1.5, 16_000), 16_000))
    (tmp_path / "b.mp4").write_bytes(clip(20, fps=20, sound=tone(1.0, 44_100)))
    (tmp_path / "silent.mp4").write_bytes(clip(5))
    return tmp_path


def test_files_of_every_format(model: str, folder: Path) -> None:
    assert command(["transcribe", "a.wav", "b.mp4", "--model", model, "-f", "all", "-o", "out", "--words"]) == 0
    made = json.loads((folder / "out" / "a.json").read_text())
    assert made["language"] in whispers.LANGUAGES
    assert made["model"] == model
    assert made["segments"]
    for segment in made["segments"]:
        assert "".join(w["word"] for w in segment["words"]).split() == segment["text"].split()
        assert all(w["start"] <= w["end"] for w in segment["words"])
    lines = (folder / "out" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["words"] for line in lines] == [s["words"] for s in made["segments"]]
    assert (folder / "out" / "b.vtt").read_text().startswith("WEBVTT\n\n00:0")
    assert len((folder / "out" / "a.tsv").read_text().splitlines()) >= len(made["segments"])


def test_language_and_task_are_those_asked_for(model: str, folder: Path, capsys: Capture) -> None:
    asked = ["--language", "Japanese", "--translate", "--beams", "2", "--prompt", "ask not", "--end", "1"]
    assert command(["transcribe", "a.wav", "--model", model, "--json", *asked]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["language"] == "ja"
    assert "words" not in made["segments"][0]


def test_one_bad_input_does_not_stop_the_rest(model: str, folder: Path, capsys: Capture) -> None:
    assert command(["transcribe", "silent.mp4", "a.wav", "--model", model]) == 3
    out, err = capsys.readouterr()
    assert "a.wav: [00:0" in out
    assert "no audio" in err


def test_what_is_refused(model: str, folder: Path, capsys: Capture) -> None:
    for argv, code, why in (
        ([], 2, "which model?"),
        (["--model", "nano"], 2, "cannot write down what is said"),
        (["--model", model, "--language", "elvish"], 2, "no language 'elvish'"),
        (["--model", model, "--vad", "none.onnx"], 5, r"none.onnx"),
        (["--model", model, "--start", "2", "--end", "1"], 2, "is not after"),
    ):
        assert command(["transcribe", "a.wav", *argv]) == code, argv
        assert why in capsys.readouterr().err


def test_caption_takes_a_whisper(model: str, folder: Path, capsys: Capture) -> None:
    assert command(["caption", "a.wav", "--model", model, "--at-end"]) == 0
    assert capsys.readouterr().out.startswith("[00:00.000 --> 00:01.500]")
