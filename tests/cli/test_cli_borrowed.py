"""The command line with borrowed models: captions, answers, matches, labels and vectors of files."""

from __future__ import annotations

import json
import re
import subprocess
import time
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import answerer, captioner, matcher
from clips import clip
from PIL import Image
from safetensors.numpy import load_file
from test_cli_watch import start

import mmworld
from mmworld.cli import command
from mmworld.generate.stop import Stop

pytest.importorskip("transformers", reason="the extra 'dev' is not installed")


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and media."""
    folder = tmp_path_factory.mktemp("borrowed")
    for name, make in (("blip", captioner), ("llava", answerer), ("clip", matcher)):
        (folder / name).mkdir()
        make(folder / name)
    (folder / "film.mp4").write_bytes(clip(60, fps=10))
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
    return folder


def lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_film_is_captioned(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, film = str(at / "blip"), str(at / "film.mp4")
    assert command(["caption", film, "--model", model, "--every", "2", "-f", "jsonl"]) == 0
    found = lines(capsys)
    assert [(c["start"], c["end"]) for c in found] == [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    told = mmworld.caption(film, model=model, policy=mmworld.Every(2.0))
    assert [c["text"] for c in found] == [" ".join(c.text.split()) for c in told]
    assert {(c["model"], len(c["revision"])) for c in found} == {(model, 12)}
    assert command(["caption", film, str(at / "0.png"), "--model", model, "--dtype", "bfloat16", "--at-end"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_film_is_watched_and_asked_about(at: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What is said is what caption says; it is found again by its words."""
    film, flags = str(at / "film.mp4"), ["--model", str(at / "llava"), "--every", "1", "--prompt", "a dog"]
    assert command(["caption", film, *flags]) == 0
    said = capsys.readouterr().out
    assert said.count("] a dog") + said.count("]  a dog") == 6
    (tmp_path / "q").write_text("what is this?\n")
    memory = str(tmp_path / "memory")
    assert command(["watch", film, *flags, "--memory", memory, "--real-time", "--ask", str(tmp_path / "q")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if "] what is this? " in line]
    assert all(line in told for line in said.splitlines())
    assert command(["find", "dog", "--memory", memory, "--json", "--most", "9"]) == 0
    moments = json.loads(capsys.readouterr().out)["moments"]
    assert sorted((m["start"], m["end"]) for m in moments) == [(i, i + 1) for i in range(6)]
    assert command(["watch", film, *flags, "--economy", "0.9"]) == 2
    assert "a LLaVA leaves out no tokens (models of ours do)" in capsys.readouterr().err


def test_a_film_is_remembered_by_models_that_can(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = str(at / "film.mp4")
    assert command(["watch", film, "--model", str(at / "llava"), "--every", "2", "--keep", "3", "--json"]) == 0
    told = [(c["start"], c["end"], c["text"]) for c in lines(capsys)]
    keep, every = mmworld.Keep(3.0), mmworld.Every(2.0)
    with mmworld.watch(film, model=str(at / "llava"), keep=keep, policy=every) as live:
        assert told == [(c.start, c.end, " ".join(c.text.split())) for c in live]
    assert len(told) == 3
    assert command(["watch", film, "--model", str(at / "blip"), "--keep", "3"]) == 2
    said = capsys.readouterr().err
    assert "keeps nothing across captions (models of ours do; and Qwen-VL, LLaVA," in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("keep", [[], ["--keep", "2"]])
def test_killed_while_it_watches_it_goes_on(keep: list[str], at: Path, tmp_path: Path) -> None:
    """kill -9, with a judge of changes: the captions are those of one that was never killed."""
    argv = ["watch", str(at / "film.mp4"), "--model", str(at / "llava"), "--on-change", *keep]
    state = tmp_path / "state"
    whole, cut = (["-o", str(tmp_path / name)] for name in ("whole.srt", "cut.srt"))
    assert command([*argv, *whole]) == 0
    saves = ["--state", state, "--save-every", "0.2", "--real-time"]
    process, deadline = start(*argv, *cut, *saves, stdout=subprocess.DEVNULL), time.monotonic() + 60
    while time.monotonic() < deadline and not state.exists():
        time.sleep(0.05)
    time.sleep(1.5)
    process.kill()
    process.wait()
    assert command([*argv, *cut, "--state", str(state)]) == 0
    assert (tmp_path / "cut.srt").read_text() == (tmp_path / "whole.srt").read_text()


def test_a_question_that_a_model_does_not_take_is_refused(
    at: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "q").write_text("what is this?\n")
    argv = ["watch", str(at / "film.mp4"), "--model", str(at / "blip"), "--every", "1", "--real-time", "--end", "2"]
    assert command([*argv, "--ask", str(tmp_path / "q")]) == 0
    told = capsys.readouterr()
    assert "captions pictures: show it one, and ask nothing" in told.err
    assert told.out.count("-->") == 2


def test_weights_are_rounded_when_asked(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchao", reason="the extra 'quantise' is not installed")
    model, picture = str(at / "clip"), str(at / "0.png")
    said = ["embed", picture, "--text", "a dog", "--model", model]
    found = []
    for how in ([], ["--quantise", "int8"]):
        assert command([*said, *how]) == 0
        found.append(lines(capsys)[0]["vector"])
    quantised = mmworld.load(model, quantise="int8")
    assert found[1] == pytest.approx(mmworld.embed(picture, model=quantised)[0].tolist(), abs=1e-6)
    assert found[1] != pytest.approx(found[0], abs=1e-6)
    assert command(["caption", picture, "--quantise", "int8"]) == 2
    assert "nano has no weights of int8" in capsys.readouterr().err


def test_a_model_that_does_not_tell_is_refused(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["caption", str(at / "0.png"), "--model", str(at / "clip")]) == 2
    assert "a CLIP cannot be shown something and tell of it" in capsys.readouterr().err
    assert command(["ask", "what is this?", str(at / "0.png")]) == 2
    assert "which model?" in capsys.readouterr().err


def test_a_question_is_answered(at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    picture, flags = str(at / "0.png"), ["--model", str(at / "llava"), "--max-tokens", "6"]
    told = mmworld.ask("what is this?", picture, model=at / "llava", stop=Stop(6))
    assert command(["ask", "what is this?", picture, *flags]) == 0
    assert capsys.readouterr().out.strip() == told
    monkeypatch.setattr("sys.stdin", StringIO("what is this?\n\nand now?\n"))
    assert command(["ask", "-", picture, *flags, "--json"]) == 0
    first, second = lines(capsys)
    assert (first["question"], first["answer"], second["question"]) == ("what is this?", told, "and now?")
    assert command(["ask", "what?", picture, *flags, "--temperature", "0.7", "--top-p", "2"]) == 2
    assert "top_p must be in (0, 1]" in capsys.readouterr().err


def test_a_text_that_the_model_has_no_places_for_is_refused(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(at / "0.png"), "--model", str(at / "blip"), "--prompt", "dog " * 600]
    assert command(["caption", *given]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"mmworld: position \d+, the model has learned 512 \(a shorter text fits\)\n", said)


def test_texts_are_matched_and_labels_given(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, flags = [str(at / f"{i}.png") for i in range(2)], ["--model", str(at / "clip")]
    texts = ["a dog", "two [b]boys"]
    assert command(["match", *pictures, "--text", texts[0], "--text", texts[1], *flags, "--json"]) == 0
    told = mmworld.match(*pictures, texts=texts, model=at / "clip").tolist()
    assert [list(row["shares"].values()) for row in lines(capsys)] == told
    assert command(["match", *pictures, "--text", texts[0], "--text", texts[1], *flags]) == 0
    table = capsys.readouterr().out
    assert "two [b]boys" in table
    assert all(f"{x:.3f}" in table for row in told for x in row)
    assert command(["classify", pictures[0], "--labels", "dog, cat,owl", "--top", "2", *flags, "--json"]) == 0
    (found,) = lines(capsys)
    want = mmworld.classify(pictures[0], labels=["dog", "cat", "owl"], model=at / "clip")[0]
    assert list(found["labels"].items()) == list(want.items())[:2]


def test_vectors_are_written(at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(at / "0.png"), "--text", "a dog", "--model", str(at / "clip")]
    told = mmworld.embed(at / "0.png", texts=["a dog"], model=at / "clip").numpy()
    assert command(["embed", *given]) == 0
    assert [row["vector"] for row in lines(capsys)] == told.tolist()
    for name, read in (("out.npy", np.load), ("out.safetensors", lambda p: load_file(p)["embeddings"])):
        assert command(["embed", *given, "-o", str(tmp_path / name)]) == 0
        assert np.array_equal(read(tmp_path / name), told)
    assert command(["embed", *given, "-o", "out.csv"]) == 2
    assert command(["embed", "--model", str(at / "clip")]) == 2


SIDE = {"type": "object", "properties": {"side": {"enum": ["left", "right"]}, "sure": {"type": "boolean"}}}
SIDE |= {"required": ["side", "sure"], "additionalProperties": False}


def test_an_answer_is_json_by_a_schema(at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "side.json").write_text(json.dumps(SIDE))
    flags = ["--model", str(at / "llava"), "--schema", str(tmp_path / "side.json")]
    assert command(["ask", "where?", str(at / "0.png"), *flags]) == 0
    told = capsys.readouterr().out
    assert (list(json.loads(told)), json.loads(told)["side"] in ("left", "right")) == (["side", "sure"], True)
    for way in ([], ["--temperature", "1.5", "--seed", "3"]):
        assert command(["ask", "where?", str(at / "0.png"), *flags, "--json", *way]) == 0
        (said,) = lines(capsys)
        assert isinstance(json.loads(said["answer"])["sure"], bool)
    assert said["answer"] != told.strip()


def test_an_answer_that_is_cut_is_an_error(at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "side.json").write_text(json.dumps(SIDE))
    flags = ["--model", str(at / "llava"), "--schema", str(tmp_path / "side.json")]
    for cut in (["--max-tokens", "4"], ["--stop", '"si']):
        assert command(["ask", "where?", str(at / "0.png"), *flags, *cut]) == 2
        assert "the answer was cut before it was whole JSON" in capsys.readouterr().err


def test_a_bad_schema_is_told_in_one_line(at: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, ask = tmp_path / "bad.json", ["ask", "where?", str(at / "0.png"), "--model", "no/such/model", "--schema"]
    for text, why in (
        (None, "No such file"),
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ('{"type": "thing"}', "not a schema: Invalid type: thing"),
        ('{"uniqueItems": true}', 'not a schema: Unimplemented keys: ["uniqueItems"]'),
    ):
        if text is not None:
            path.write_text(text)
        assert command([*ask, str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(path) in line
        assert why in line
    assert command([*ask, str(path), "--choice", "left"]) == 2
    assert "--choice and --schema both say what the answer is" in capsys.readouterr().err
