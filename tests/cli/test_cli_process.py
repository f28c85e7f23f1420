"""What the shell sees: exit codes, signals, closed pipes, odd names, odd terminals, partial output that is valid."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import pytest

FAKE = Path(__file__).with_name("fake.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def sound(path: Path | bytes, seconds: float = 3.0) -> None:
    with open(path, "wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(2 * round(8000 * seconds)))


def begin(*argv: str | bytes, folder: Path, environment: dict[str, str] | None = None, **options: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, str(FAKE), *argv],
        cwd=folder,
        env={**ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def mmworld(*argv: str | bytes, folder: Path, **options: Any) -> tuple[int, str, str]:
    process = begin(*argv, folder=folder, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sound(tmp_path / "a.wav", 3)
    sound(tmp_path / "b.wav", 2)
    sound(tmp_path / "broken.wav", 4)
    (tmp_path / "text.mp4").write_text("this is no film")
    return tmp_path


def test_results_and_messages_go_apart(folder: Path) -> None:
    code, out, err = mmworld("caption", "a.wav", folder=folder)
    assert code == 0
    assert out.splitlines() == [f"[00:0{i}.000 --> 00:0{i + 1}.000]  {i} things" for i in range(3)]
    assert err.count("\n") == 1
    assert "nano knows a small world" in err


def test_one_bad_input_does_not_stop_the_rest(folder: Path) -> None:
    code, out, err = mmworld("caption", "text.mp4", "nope.wav", "broken.wav", "a.wav", folder=folder)
    assert code == 3
    assert [line.split(":")[0] for line in out.splitlines()] == ["broken.wav"] * 2 + ["a.wav"] * 3
    told = [line for line in err.splitlines() if "nano knows" not in line]
    assert [line.split(": ")[1] for line in told] == ["text.mp4", "nope.wav", "broken.wav"]


@pytest.mark.parametrize("argv", [["text.mp4"], ["nope.wav", "text.mp4"], ["/dev/zero"]])
def test_only_bad_inputs_are_4(argv: list[str], folder: Path) -> None:
    code, out, err = mmworld("caption", *argv, folder=folder)
    assert (code, out) == (4, "")
    assert len(err.splitlines()) == len(argv)
    assert "Traceback" not in err


def test_all_formats_of_several_inputs(folder: Path) -> None:
    code, out, _ = mmworld("caption", "a.wav", "b.wav", "-f", "all", "-o", "out", folder=folder)
    assert (code, out) == (0, "")
    names = {f"{stem}.{ext}" for stem in "ab" for ext in ("txt", "srt", "vtt", "tsv", "json", "jsonl")}
    assert {path.name for path in (folder / "out").iterdir()} == names
    document = json.loads((folder / "out" / "b.json").read_text())
    assert [s["text"] for s in document["segments"]] == ["0 things", "1 things"]
    assert (document["source"], document["model"]) == ("b.wav", "fake")


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    (folder / "a.srt").write_text("mine")
    code, _, err = mmworld("caption", "a.wav", "-o", "{stem}.srt", folder=folder)
    assert code == 2
    assert "--overwrite" in err
    assert (folder / "a.srt").read_text() == "mine"
    code, _, _ = mmworld("caption", "a.wav", "b.wav", "-o", "{stem}.srt", "--skip-existing", folder=folder)
    assert code == 0
    assert (folder / "a.srt").read_text() == "mine"
    assert (folder / "b.srt").read_text().count("-->") == 2
    code, _, _ = mmworld("caption", "a.wav", "-o", "{stem}.srt", "--overwrite", folder=folder)
    assert code == 0
    assert (folder / "a.srt").read_text().count("-->") == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_valid_output(number: int, folder: Path) -> None:
    process = begin("caption", "a.wav", "-f", "srt,json", "-o", "out", folder=folder, environment={"FAKE_PAUSE": "0.6"})
    part = folder / "out" / "a.srt.part"
    wait_for(lambda: part.is_file() and part.read_text().endswith("\n\n"))
    sent = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - sent < 10  # the promise of one second is the benchmark's to check, not a busy machine's
    assert process.returncode == 130
    assert b"Traceback" not in err
    said = (folder / "out" / "a.srt").read_text().count("-->")
    assert 1 <= said < 3
    assert len(json.loads((folder / "out" / "a.json").read_text())["segments"]) == said
    assert not list((folder / "out").glob("*.part"))


def test_a_signal_ends_what_native_code_holds_up(folder: Path) -> None:
    code = (
        "import os, threading, time; from mmworld.cli import guard\n"
        "def work():\n"
        "    with guard.last_act(lambda: print('last act', flush=True)):\n"
        "        while True:\n"
        "            try: print('begun', flush=True); time.sleep(60)\n"
        "            except KeyboardInterrupt: pass\n"
        "guard.leave(guard.run(work))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=ENVIRONMENT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.endswith("last act\n")


def test_a_killed_process_leaves_whole_lines(folder: Path) -> None:
    process = begin("caption", "a.wav", "-o", "a.jsonl", folder=folder, environment={"FAKE_PAUSE": "0.4"})
    part = folder / "a.jsonl.part"
    wait_for(lambda: part.is_file() and part.stat().st_size)
    process.kill()
    process.communicate()
    assert not (folder / "a.jsonl").exists()
    assert all(json.loads(line)["text"] for line in part.read_text().splitlines())


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    process = begin("caption", "a.wav", "--progress", "none", folder=folder, environment={"FAKE_PAUSE": "0.2"})
    assert process.stdout.readline().startswith(b"[00:00.000")
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert b"Traceback" not in process.stderr.read()


def test_captions_appear_as_they_are_made(folder: Path) -> None:
    process = begin("caption", "a.wav", folder=folder, environment={"FAKE_PAUSE": "1"})
    assert process.stdout.readline()
    assert process.poll() is None
    process.communicate(timeout=30)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX limits")
def test_a_full_disk_is_6_and_keeps_whole_lines(folder: Path) -> None:
    def small() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    (folder / "a.jsonl").write_text("old")
    code, _, err = mmworld("caption", "a.wav", "-o", "a.jsonl", "--overwrite", folder=folder, preexec_fn=small)
    assert code == 6
    assert "a.jsonl" in err
    assert (folder / "a.jsonl").read_text() == "old"
    assert [json.loads(line)["id"] for line in (folder / "a.jsonl.part").read_text().splitlines()] == [0]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_too_little_memory_is_6(folder: Path) -> None:
    def small() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    command = [sys.executable, "-c", "from mmworld.cli import main; main()", "caption", "a.wav", "--model", "x"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, preexec_fn=small, check=False)
    assert done.returncode == 6, done.stderr
    assert "out of memory" in done.stderr
    assert "MB" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_output_is_6(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(FAKE), "caption", "a.wav"]
        done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    assert done.returncode == 6
    assert b"standard output" in done.stderr


def test_a_folder_that_cannot_be_made_is_6(folder: Path) -> None:
    code, out, err = mmworld("caption", "a.wav", "-o", "b.wav/x", folder=folder)
    assert (code, out) == (6, "")
    assert "cannot write" in err


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_6(folder: Path) -> None:
    (folder / "out").mkdir(mode=0o500)
    code, _, err = mmworld("caption", "a.wav", "-o", "out", folder=folder)
    assert code == 6
    assert "out" in err


NAMES = [
    b"line\nend.wav",
    b"-rf.wav",
    b"%s%n {stem}.wav",
    b"\xff\xfe.wav",
    "émoji 🎬.wav".encode(),
    b"x" * 251 + b".wav",
]


@pytest.mark.parametrize("name", NAMES, ids=["newline", "dash", "percent", "bytes", "emoji", "long"])
def test_odd_names_work_and_print_safely(name: bytes, tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    sound(os.path.join(os.fsencode(inside), name), 2)
    sound(inside / "b.wav", 1)
    code, out, err = mmworld("caption", "in", folder=tmp_path)
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert all(c.isprintable() or c == "\n" for c in out + err)
    code, _, err = mmworld("caption", "in", "-f", "srt,json", "-o", "out", folder=tmp_path)
    assert code == 0, err
    assert len(list((tmp_path / "out").iterdir())) == 4
    sources = {json.loads(path.read_text())["source"] for path in (tmp_path / "out").glob("*.json")}
    assert os.path.join(b"in", name) in {os.fsencode(source) for source in sources}


def test_literal_names_come_before_patterns(tmp_path: Path) -> None:
    for name in ("[a].wav", "a.wav", "%03d.wav"):
        sound(tmp_path / name, 1)
    code, out, _ = mmworld("caption", "[a].wav", "%03d.wav", "-f", "jsonl", folder=tmp_path)
    assert code == 0
    assert [json.loads(line)["source"] for line in out.splitlines()] == ["[a].wav", "%03d.wav"]
    code, out, _ = mmworld("caption", "*.wav", "-f", "jsonl", folder=tmp_path)
    assert [json.loads(line)["source"] for line in out.splitlines()] == ["%03d.wav", "[a].wav", "a.wav"]


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252"},
        {"COLUMNS": "20", "NO_COLOR": "1", "TERM": "dumb"},
    ],
    ids=["C", "cp1252", "narrow"],
)
def test_odd_terminals(environment: dict[str, str], tmp_path: Path) -> None:
    sound(tmp_path / "日本 🎬.wav", 1)
    sound(tmp_path / "b.wav", 1)
    code, out, err = mmworld("caption", ".", folder=tmp_path, environment=environment)
    assert code == 0, err
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out + err
    code, out, _ = mmworld("caption", "--help", folder=tmp_path, environment=environment)
    assert code == 0
    assert "--every" in out


def test_a_terminal_gets_bars_and_colours_only_if_it_wants(folder: Path) -> None:
    pty = pytest.importorskip("pty")

    def seen(environment: dict[str, str]) -> bytes:
        leader, follower = pty.openpty()
        command = [sys.executable, str(FAKE), "caption", "a.wav", "-o", "x.txt", "--overwrite"]
        environment = {**ENVIRONMENT, "TERM": "xterm", "FAKE_PAUSE": "0.2", **environment}
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=follower, stdout=subprocess.DEVNULL)
        os.close(follower)
        received = b""
        try:
            while data := os.read(leader, 4096):
                received += data
        except OSError:
            pass
        os.close(leader)
        assert process.wait(timeout=30) == 0
        return received

    assert re.search(rb"\x1b\[[\d;]*3\d", seen({}))
    plain = seen({"NO_COLOR": "1"})
    assert b"a.wav" in plain
    assert not re.search(rb"\x1b\[[\d;]*3\dm", plain)


def test_progress_as_json(folder: Path) -> None:
    code, _, err = mmworld("caption", "text.mp4", "b.wav", "--progress", "json", "-o", "out", folder=folder)
    assert code == 3
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [e["event"] for e in events] == ["error", "start", "progress", "progress", "end"]
    assert events[1] == {"event": "start", "source": "b.wav", "duration": 2.0}
    assert [e["time"] for e in events[2:4]] == [1.0, 2.0]


def test_an_internal_error_is_one_line_and_debug_shows_where(folder: Path) -> None:
    command = "import sys; sys.argv[1:] = ['doctor']; from mmworld.cli import doctor, main\n"
    command += "doctor.examine = lambda: 1 / 0\n"
    for extra, lines in (("", 1), ("sys.argv.append('--debug')\n", 5)):
        done = subprocess.run(
            [sys.executable, "-c", command + extra + "main()"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "ZeroDivisionError" in done.stderr
        assert len(done.stderr.splitlines()) >= lines
        assert ("Traceback" in done.stderr) == bool(extra)


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
