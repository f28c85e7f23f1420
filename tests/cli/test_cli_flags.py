"""Flags, settings and their order; what is imported for which."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmworld.cli import VERBS, command
from mmworld.cli.flags import Parser, seconds
from mmworld.cli.formats import clock

Capture = pytest.CaptureFixture[str]


def effective(capsys: Capture, *argv: str) -> dict[str, object]:
    assert command(["caption", "x", "--print-config", *argv]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *[[verb, "--help"] for verb in VERBS]])
def test_help_is_there_and_light(argv: list[str]) -> None:
    code = (
        "import os, sys; from mmworld.cli import command; assert command(sys.argv[1:]) == 0;"
        "heavy = {'torch', 'numpy', 'av', 'matplotlib', 'rich', 'pydantic', 'lightning'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "status = '/proc/self/status' if sys.platform == 'linux' else os.devnull;"
        "peak = [line for line in open(status) if line.startswith('VmHWM')];"
        "assert not peak or int(peak[0].split()[1]) < 60_000, peak"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mmworld" in done.stdout
    assert not done.stderr


def test_every_listed_verb_works_without_a_traceback(capsys: Capture) -> None:
    for verb in VERBS:
        assert command([verb, "--help"]) == 0
    assert set(VERBS) <= set(capsys.readouterr().out.split())


def test_hyphen_and_underscore_are_one(capsys: Capture) -> None:
    a = effective(capsys, "--output_dir", "a_b", "--skip_existing", "--limit_points=7")
    b = effective(capsys, "--output-dir", "a_b", "--skip-existing", "--limit-points=7")
    assert a == b
    assert (a["output_dir"], a["skip_existing"], a["limit_points"]) == ("a_b", True, 7)


def test_file_then_environment_then_flags(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mmworld.yaml"
    file.write_text("model: file\nprompt: file\nseed: 1\nevery: 2\noverwrite: true\noutput-format: [srt, vtt]\n")
    monkeypatch.setenv("MMWORLD_PROMPT", "environment")
    monkeypatch.setenv("MMWORLD_SEED", "2")
    monkeypatch.setenv("MMWORLD_JSON", "yes")
    given = effective(capsys, "--config", str(file), "--seed", "3", "--no-overwrite")
    assert (given["model"], given["prompt"], given["seed"]) == ("file", "environment", 3)
    assert (given["every"], given["overwrite"], given["json"]) == (2.0, False, True)
    assert given["output_format"] == ["srt", "vtt"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "every": st.floats(0.1, 100).map(lambda x: round(x, 3)),
            "prompt": st.text(st.characters(exclude_categories=["C"]), max_size=12),
            "output_format": st.lists(st.sampled_from(["txt", "srt", "json"]), min_size=1, unique=True),
            "overwrite": st.booleans(),
            "start": st.floats(0, 1e5),
            "threads": st.integers(1, 8),
        },
    )
)
def test_print_config_round_trips(settings: dict[str, object]) -> None:
    import contextlib
    import io
    import tempfile

    def printed(data: str) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(data)
            file.flush()
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert command(["caption", "--config", file.name, "--print-config"]) == 0
        return out.getvalue()

    once = printed(yaml.safe_dump(settings))
    assert settings.items() <= yaml.safe_load(once).items()
    assert printed(once) == once


def test_the_last_way_to_speak_holds(capsys: Capture) -> None:
    assert effective(capsys, "--every", "3", "--at-end").get("every") is None
    assert effective(capsys, "--at-end", "--every", "3")["at_end"] is False


SPANS = (
    ["caption", "x"],
    ["transcribe", "x"],
    ["ask", "what?", "x"],
    ["match", "x", "--text", "a"],
    ["classify", "x"],
    ["embed", "x"],
    ["ground", "x"],
    ["watch", "x"],
    ["find", "x", "--memory", "y"],
)
"""The verbs that look at a stretch of what they are given."""


def test_every_verb_that_takes_a_span_is_among_them() -> None:
    spanned = set()
    for verb in VERBS:
        parser = Parser()
        importlib.import_module(f"mmworld.cli.{verb}").add_arguments(parser)
        spanned |= {verb} if "--end TIME" in parser.format_help() else set()
    assert spanned == {verb for verb, *_ in SPANS}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["capton"], "did you mean caption"),
        (["caption"], "no INPUT"),
        (["caption", "x", "--evry", "2"], "--evry"),
        (["caption", "x", "--every", "0"], "more than 0"),
        (["caption", "x", "--start", "1:2:3:4"], "HH:MM:SS"),
        (["caption", "x", "--end", "nan"], "from 0 up"),
        *(([*argv, "--start", "5", "--end", "5"], "--end 5 is not after --start 5") for argv in SPANS),
        (["caption", "x", "-f", "doc"], "'doc' is not one of"),
        (["caption", "x", "--device", "tpu"], "cuda"),
        (["caption", "x", "-f", "srt,vtt", "-o", "-"], "one format"),
        (["caption", "x", "y", "-f", "srt"], "-o DIR"),
        (["caption", "x", "-o", "{stam}.txt"], "{stam}"),
        (["caption", "a/x.mp4", "b/x.wav", "-o", "out"], "would hold"),
        (["caption", "x", "--plot", "x.gif"], "no picture"),
        (["train"], "no RECIPE"),
        (["caption", "x", "--limit-points", "-1"], "from 1 up"),
    ],
)
def test_misuse_is_one_line_and_2(argv: list[str], words: str, capsys: Capture) -> None:
    assert command(argv) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("evry: 2", "did you mean every"),
        ("every: fast", "every"),
        ("overwrite: perhaps", "neither"),
        ("- a", "mapping"),
    ],
)
def test_a_bad_settings_file_is_named(text: str, words: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "mmworld.yaml"
    file.write_text(text)
    assert command(["caption", "x", "--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "mmworld.yaml" in error


def test_a_bad_variable_is_named(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMWORLD_THREADS", "many")
    assert command(["caption", "x"]) == 2
    assert "MMWORLD_THREADS" in capsys.readouterr().err


@given(st.integers(0, 10**8))
def test_times_read_both_ways(milliseconds: int) -> None:
    value = milliseconds / 1000
    assert seconds(str(value)) == value
    assert seconds(clock(value)) == pytest.approx(value, abs=1e-6)
    assert seconds(clock(value, hours=True)) == pytest.approx(value, abs=1e-6)
