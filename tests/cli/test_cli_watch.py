"""mmworld watch: as it runs, killed and gone on with, asked; what is in its files is whole and never said twice."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from test_cli_process import ENVIRONMENT

import mmworld
from mmworld.cli import command
from mmworld.cli.formats import Origin
from mmworld.cli.journal import Journal
from mmworld.cli.view import LOOKS, Looks, table
from mmworld.errors import UsageError
from mmworld.models.events import Stall
from mmworld.models.provisional import Provisional
from mmworld.stream.intake import Lane
from mmworld.stream.thin import Thin
from mmworld.types import Caption, Gap

SAMPLES = Path(mmworld.__file__).parent / "samples"
SCENE, MOTION = str(SAMPLES / "scene.mp4"), str(SAMPLES / "motion.csv")
SOUNDS = str(SAMPLES / "sounds.wav")
ORIGIN = Origin("a.mp4", "nano", "0", 0)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(*args: object, **options: object) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", "from mmworld.cli import main; main()", *map(str, args)]
    return subprocess.Popen(argv, env=ENVIRONMENT, **options)  # type: ignore[call-overload, no-any-return]


def test_it_says_what_caption_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["caption", SCENE, "--every", "1"]) == 0
    said = capsys.readouterr().out
    outputs = [x for suffix in ("jsonl", "srt", "vtt", "txt") for x in ("-o", str(tmp_path / f"a.{suffix}"))]
    assert command(["watch", SCENE, "--every", "1", *outputs]) == 0
    assert capsys.readouterr().out == said
    assert command(["caption", SCENE, "--every", "1", "-f", "all", "-o", str(tmp_path / "b.{ext}")]) == 0
    for suffix in ("srt", "vtt", "txt"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    texts = [e["text"] for e in lines(tmp_path / "b.jsonl")]
    assert [e["text"] for e in lines(tmp_path / "a.jsonl")] == texts


def test_it_draws_what_it_watched(tmp_path: Path) -> None:
    plot = tmp_path / "a.png"
    assert command(["watch", SCENE, "--with", f"sensor={MOTION}", "--every", "2", "--plot", str(plot)]) == 0
    width, height = Image.open(plot).size
    assert width > 1000
    assert height > 500


def test_it_speaks_when_speech_is_over(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("google.protobuf", reason="the extra 'onnx' is not installed")
    speech = str(shared_data / "media" / "audio" / "jfk.flac")
    flags = [speech, "--at-silence", str(shared_data / "weights" / "silero_vad" / "silero_vad.onnx")]
    assert command(["caption", *flags]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 4, "three pauses of half a second and more"
    assert command(["watch", *flags]) == 0
    assert capsys.readouterr().out == said
    assert command(["watch", *flags[:2], "nothing.onnx"]) == 5


def test_it_speaks_as_it_was_trained_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(["caption", SCENE, "--as-trained"]) == 0
    said = capsys.readouterr().out
    assert command(["watch", SCENE, "--as-trained"]) == 0
    assert capsys.readouterr().out == said
    assert len(said.splitlines()) > 2, "it speaks by itself, not at the end alone"
    mmworld.load("nano").save(tmp_path)
    assert command(["watch", SCENE, "--as-trained", "--model", str(tmp_path)]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "this model has no listen/speak head" in line


def test_several_sources_on_one_clock(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["watch", SCENE, "--with", f"sensor={MOTION}", "--every", "3", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["end"] for e in events][:2] == [3.0, 6.0]
    together = mmworld.watch(SCENE, sensor=MOTION, policy=mmworld.Every(3.0))
    with together as live:
        assert [e.text for e in live] == [e["text"] for e in events]


def test_a_sensor_through_a_pipe(tmp_path: Path) -> None:
    """Its readings come a little out of order, and some broken."""
    sent = [json.dumps({"time": (i ^ 1) / 16, "values": [i / 10, 1.0]}) for i in range(96)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start("watch", "-", "--every", "2", "--json", "--progress", "none", **options)
    out, err = process.communicate("\n".join([sent[0], "{broken", *sent[1:]]).encode(), timeout=120)
    assert process.returncode == 0, err
    assert [json.loads(line)["end"] for line in out.splitlines()] == [2.0, 4.0, 6.0]
    assert b"<stdin>: bad lines" in err


def test_a_sensor_file_and_a_folder_that_grow_until_they_are_removed(tmp_path: Path) -> None:
    log, folder = tmp_path / "log.jsonl", tmp_path / "in"
    folder.mkdir()
    log.write_text("".join(json.dumps({"time": i / 16, "values": [i]}) + "\n" for i in range(64)))
    flags = ["--with", f"sensor={log}", "--follow", "--every", "1", "--json", "--progress", "none"]
    process = start("watch", folder, *flags, stdout=subprocess.PIPE)
    shutil.copy(SCENE, folder / "1.part")
    (folder / "1.part").rename(folder / "1.mp4")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["end"] == 1.0
    with log.open("a") as file:
        file.writelines(json.dumps({"time": i / 16, "values": [i]}) + "\n" for i in range(64, 128))
    log.unlink()
    shutil.rmtree(folder)
    ends = [json.loads(line)["end"] for line in process.communicate(timeout=100)[0].splitlines()]
    assert process.returncode == 0
    assert ends[:6] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stall", "0"], "--stall"),
        (["--with", "smell=a.csv"], "--with smell=a.csv: give SENSE=SOURCE, of video, audio, points, sensor, image"),
        (["--with", f"audio={SCENE}"], "audio comes from two sources (one session has one source of each sense)"),
        (["--end", "2", "--state", "s"], "--end with --state: what has ended is not gone on with"),
        (["--rerun", "a.mp4"], "--rerun a.mp4: not .rrd, by which the viewer knows it"),
        (["-o", "a.pdf"], "-o a.pdf: not one of .jsonl, .srt, .vtt, .txt, .tsv"),
    ],
)
def test_bad_flags(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["watch", SCENE, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "rtsp://cam: streams from this host are not allowed (--allow-host cam)"),
        (["--allow-host", "other"], "rtsp://cam: streams from this host are not allowed (--allow-host cam)"),
        (["--allow-host", "cam", "--offline"], "rtsp://cam: streams from this host are not allowed"),
        (["--allow-host", "rtsp://cam"], "'rtsp://cam' is no host (HOST, HOST:PORT or [IPv6]:PORT)"),
    ],
)
def test_a_host_that_is_not_allowed(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["watch", "rtsp://me:secret@cam/x", *flags]) in (2, 4)
    said = capsys.readouterr().err
    assert message in said
    assert "secret" not in said
    assert said.count("\n") == 1


def test_an_output_that_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.srt").write_text("mine")
    assert command(["watch", SCENE, "-o", str(tmp_path / "a.srt")]) == 2
    assert "exists (another -o, or --state with the state it belongs to)" in capsys.readouterr().err
    assert (tmp_path / "a.srt").read_text() == "mine"


def test_killed_again_and_again_it_says_what_one_never_killed_says(tmp_path: Path) -> None:
    """kill -9 of a running process; the last run is let end."""
    whole, cut, state = tmp_path / "whole", tmp_path / "cut", tmp_path / "state"
    same = ["watch", SCENE, "--every", "0.5"]
    outputs = [[x for s in ("jsonl", "srt") for x in ("-o", f"{stem}.{s}")] for stem in (whole, cut)]
    assert command([*same, *outputs[0]]) == 0
    for _ in range(2):
        process = start(
            *same, *outputs[1], "--state", state, "--save-every", "0.2", "--real-time", stdout=subprocess.DEVNULL
        )
        before, deadline = state.stat().st_mtime_ns if state.exists() else 0, time.monotonic() + 60
        while time.monotonic() < deadline and not (state.exists() and state.stat().st_mtime_ns > before):
            time.sleep(0.05)
        time.sleep(random.Random(before).uniform(0.3, 1.5))
        process.kill()
        process.wait()
    assert command([*same, *outputs[1], "--state", str(state)]) == 0
    for suffix in ("jsonl", "srt"):
        assert cut.with_suffix(f".{suffix}").read_text() == whole.with_suffix(f".{suffix}").read_text()


def test_told_to_stop_it_saves_and_leaves_at_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = start("watch", SCENE, "--every", "0.5", "--real-time", "--state", state, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 130
    assert state.exists()


def test_questions_are_answered_as_they_come(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "q").write_text("a red\n\nthere is\n")
    log = tmp_path / "log.jsonl"
    assert command(["watch", SCENE, "--real-time", "--end", "2", "--ask", str(tmp_path / "q"), "-o", str(log)]) == 0
    out = capsys.readouterr().out
    assert [e["question"] for e in lines(log) if e["event"] == "answer"] == ["a red", "there is"]
    assert "] a red " in out


def test_what_would_be_said_by_now_is_told_where_it_can_be_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [[x for s in ("jsonl", "srt") for x in ("-o", str(tmp_path / f"{stem}.{s}"))] for stem in "ab"]
    same = ["watch", SCENE, "--every", "3", "--end", "6"]
    assert command([*same, *outputs[0]]) == 0
    said = capsys.readouterr().out
    assert command([*same, *outputs[1], "--provisional", "1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if "…]" not in line] == said.splitlines()
    assert (tmp_path / "a.srt").read_text() == (tmp_path / "b.srt").read_text()
    events = lines(tmp_path / "b.jsonl")
    spans = [(e["event"], e["start"], e["end"]) for e in events]
    assert [s for s in spans if s[0] == "caption"] == [("caption", 0.0, 3.0), ("caption", 3.0, 6.0)]
    so_far = {s[1:] for s in spans if s[0] == "provisional"}
    assert so_far
    assert so_far <= {(0.0, 1.0), (0.0, 2.0), (3.0, 4.0), (3.0, 5.0)}
    assert all(str(e["text"]).startswith(str(e.get("settled", ""))) for e in events)
    assert all(e["confidence"] == pytest.approx(2.718282 ** float(str(e["avg_logprob"])), abs=1e-3) for e in events)


def test_on_demand_it_says_nothing_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q").write_text("a red\n")
    same = ["watch", SCENE, "--end", "2", "--real-time", "--json", "--on-demand"]
    assert command([*same, "--ask", str(tmp_path / "q")]) == 0
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["answer"]
    assert command([*same, "--every", "1"]) == 0
    assert capsys.readouterr().out.count('"caption"') == 2


def caption(i: int) -> Caption:
    return Caption(f"number {i}", float(i), i + 1.0, -0.5, "a.mp4")


@pytest.mark.parametrize("suffix", ["jsonl", "srt", "vtt", "txt", "tsv"])
def test_a_journal_cut_anywhere_is_gone_on_with(suffix: str, tmp_path: Path) -> None:
    """Written to its end, cut at any byte, and gone on with from any earlier state, it is what it would have been."""
    outage, so_far = Gap(1.0, 2.0, "video", "outage", "cam"), Provisional(caption(1), "number")
    events = [caption(0), outage, so_far, caption(1), caption(2), caption(3)]
    kept = events if suffix == "jsonl" else [e for e in events if isinstance(e, Caption)]
    path = tmp_path / f"a.{suffix}"

    def write(before: float | None, some: list[object]) -> None:
        journal = Journal(path, ORIGIN, before)
        for event in some:
            journal.add(event)
        journal.close()

    write(None, events)
    whole = path.read_bytes()
    rng = random.Random(suffix)
    for _ in range(60):
        at = rng.randrange(len(whole) + 1)
        path.write_bytes(whole[:at])
        before = rng.randint(0, _pieces(whole, at, suffix))
        write(before, kept[before:])
        assert path.read_bytes() == whole, (at, before)


def _pieces(whole: bytes, at: int, suffix: str) -> int:
    """How many pieces were whole before the cut."""
    if suffix in ("srt", "vtt"):
        return whole[: whole[:at].rfind(b"\n\n") + 2].count(b"-->") if b"\n\n" in whole[:at] else 0
    return max(whole[:at].count(b"\n") - (suffix == "tsv"), 0)


def test_a_stall_in_a_journal_moves_nothing_that_is_said_again(tmp_path: Path) -> None:
    """Stopped after any event and gone on with from any state before: without the stalls, each event once."""
    events = [caption(i) for i in range(5)]
    for stopped in range(6):
        for before in range(stopped + 1):
            path = tmp_path / f"{stopped}-{before}.jsonl"
            for some, resumed in ((events[:stopped], None), (events[before:], before)):
                journal = Journal(path, ORIGIN, resumed)
                for event in some:
                    journal.add(Stall("source", "cam", 31.0, "devices.py:7 read"))
                    journal.add(event)
                journal.close()
            written = lines(path)
            assert [e["start"] for e in written if e["event"] == "caption"] == [e.start for e in events]
            stalls = [e for e in written if e["event"] == "stall"]
            assert len(stalls) == stopped + len(events) - before
            assert {(e["part"], e["of"], e["where"], e["over"]) for e in stalls} == {
                ("source", "cam", "devices.py:7 read", False)
            }


def test_a_pipe_that_is_silent_is_named(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    flags = ["--every", "2", "--json", "--stall", "0.2", "-o", log]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = start("watch", "-", *flags, **options)
    assert process.stdin is not None
    assert process.stderr is not None
    sent = [json.dumps({"time": i / 16, "values": [i / 10]}).encode() + b"\n" for i in range(64)]
    process.stdin.write(b"".join(sent[:40]))
    process.stdin.flush()
    assert any(b"<stdin>: nothing came for " in line for line in process.stderr)
    process.stdin.write(b"".join(sent[40:]))
    process.stdin.flush()
    assert any(b"<stdin>: goes on after " in line for line in process.stderr)
    process.communicate(timeout=120)
    told = [e for e in lines(log) if e["event"] == "stall" and e["part"] == "source"]
    assert (told[0]["of"], told[0]["over"]) == ("<stdin>", False)
    assert [e["end"] for e in lines(log) if e["event"] == "caption"] == [2.0, 4.0]


def test_what_came_live_is_gone_on_with_behind_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    Journal(path, ORIGIN).add(caption(0))
    Journal(path, ORIGIN, float("inf")).add(caption(7))
    assert path.read_text().split("\n\n")[1].startswith("2\n00:00:07,000")
    with pytest.raises(UsageError, match="exists"):
        Journal(path, ORIGIN)


def test_how_it_stands_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["watch", SCENE, "--with", f"sensor={MOTION}", "--real-time", "--end", "2", "--progress", "json"]
    assert command(argv) == 0
    told = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert told
    assert [s["source"] for s in told[-1]["sources"]] == ["scene.mp4", "motion.csv"]
    times = [t["sources"][0]["time"] for t in told]
    assert times == sorted(times)
    assert 0 < told[-1]["state_bytes"] < told[-1]["resident_bytes"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_a_terminal_shows(width: int) -> None:
    """Names are cut where it is narrow; figures never are, and stand below one another."""
    now = time.monotonic()
    lane = Lane("hall", True, {"video": 65.5}, counts=Counter(slow=3), arrived=now)
    other = Lane("a/[b]" + "c" * 90, True, {"audio": 93665.25}, arrived=now)
    live = SimpleNamespace(lanes=[lane, other], nbytes=3 << 20, unsaid=2, captions=7)
    live.delay, live.tokens = lambda part: part, {"video": (1000, 780), "audio": (50, 50)}
    live.stalls = (Stall("speaking", "[0.000, 5.000)", 31.4, "decode.py:7 [decode]"),)
    lane.thins["video"] = Thin(0.0)
    lane.thins["video"].passes(0.0, 0.6)
    console, looks = Console(record=True, width=width, file=io.StringIO()), Looks(live)
    console.print(table(looks.state(now)))
    lane.clocks["video"] += 10
    console.print(table(looks.state(now + 10)))
    drawn = console.export_text().splitlines()
    assert max(map(len, drawn)) <= width
    shown = [" ".join(line.split()) for line in drawn]
    assert "hall 01:05.5 0 3 slow read, 1 in 4" in shown
    assert "hall 01:15.5 1.0x 0 3 slow 10 s quiet" in shown
    assert sum(line.startswith("[b]c") and "26:01:05.2" in line for line in shown) == 2
    below = ["captions 7, 2 untold", "latency p50 0.50 s, p95 0.95 s", "tokens video: 220 of 1000 left out (22%)"]
    assert shown[3:6] == below
    memory = next(i for i, line in enumerate(shown) if line.startswith("memory 3 MiB of the stream, "))
    hangs = "hangs speaking [0.000, 5.000): no progress for 31 s (decode.py:7 [decode])"
    assert " ".join(shown[6:memory]) == hangs
    ends = {line.index(found) + len(found) for line in drawn for found in ("01:15.5", "26:01:05.2") if found in line}
    assert len(ends) == 1


def test_a_rate_is_that_of_the_last_looks() -> None:
    """Twice as fast as real time at first; later it stands still, and so does its rate."""
    lane = Lane("hall", False, {"video": 0.0})
    live = SimpleNamespace(lanes=[lane], nbytes=0, unsaid=0, captions=0, delay=lambda part: 0.0, tokens={}, stalls=())
    looks, rates = Looks(live), []
    for i in range(3 * LOOKS):
        lane.clocks["video"] = min(i, LOOKS) * 1.0
        rates.append(looks.state(100 + i / 2)["sources"][0]["rate"])
    assert rates[0] is None
    assert rates[1:LOOKS] == [2.0] * (LOOKS - 1)
    assert rates[LOOKS:] == sorted(rates[LOOKS:], reverse=True)
    assert rates[2 * LOOKS + 1 :] == [0.0] * (LOOKS - 1)


def test_tokens_that_are_left_out_are_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    """As many as a session that reads the same film leaves out, and the captions are those of it."""
    economy = {"video": mmworld.Economy(0.95)}
    captioner = mmworld.Captioner(mmworld.load("nano"), mmworld.Every(2.0), economy=economy)
    opened = captioner.open(SCENE)
    session = mmworld.Session(captioner.world, modalities=opened.modalities, economy=economy)
    for chunk in opened.chunks:
        session.append(chunk)
    heard = session.streams["video"]
    gone = heard.given - heard.kept
    assert 0 < gone < heard.given

    assert command(["watch", SCENE, "--every", "2", "--economy", "0.95", "--json", "--progress", "json"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line)["text"] for line in out.splitlines()] == [c.text for c in captioner.caption(SCENE)]
    told = [json.loads(line) for line in err.splitlines() if line.startswith("{")][-1]
    assert told["tokens"]["video"] == {"made": heard.given, "left_out": gone}
    assert told["tokens"]["audio"]["left_out"] == 0
    assert told["captions"] == len(out.splitlines())
    assert f"mmworld: tokens of video: {gone} of {heard.given} left out ({gone / heard.given:.0%})" in err
    with mmworld.watch(SCENE, policy=mmworld.Every(2.0), economy=economy) as live:
        list(live)
    assert live.tokens["video"] == (heard.given, heard.kept)
    assert command(["watch", SCENE, "--economy", "1.5"]) == 2
    assert "'1.5' is no number above 0 and at most 1" in capfd.readouterr().err


@pytest.mark.parametrize("n", [4, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_from_any_point_a_real_film_goes_on_with_the_same_words_and_times(n: int, tmp_path: Path) -> None:
    """Saved and left at random points, at speed or in real time; the state is small and restored at once."""
    world, rng, state = mmworld.load("nano"), random.Random(n), tmp_path / "state"
    how = {"model": world, "policy": mmworld.Every(0.5), "keep": mmworld.Keep(3.0)}
    with mmworld.watch(SCENE, **how) as live:
        whole = list(live)
        bound = live.nbytes
    for _ in range(n):
        with mmworld.watch(SCENE, **how, real_time=rng.random() < 0.1) as live:
            reader, said = iter(live), []
            for _ in range(rng.randint(0, 5)):
                said.append(next(reader))
            live.save(state).result(30)
        assert state.stat().st_size < bound + (1 << 20)
        with mmworld.watch(SCENE, **how, resume=state) as live:
            before = live.before.events
            assert before <= len(said)
            assert [(e.start, e.end, e.text) for e in live] == [(e.start, e.end, e.text) for e in whole[before:]]


def test_several_sources_are_streams_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each says what it says alone, in files of its own, and behind its name on a terminal."""
    names = [SCENE, SOUNDS]
    alone = {n: [c.text for c in mmworld.caption(n, policy=mmworld.Every(2.0))] for n in names}
    template = str(tmp_path / "{stem}")
    flags = ["--every", "2", "-o", template + ".jsonl", "--state", template + ".state", "--memory", str(tmp_path / "m")]
    assert command(["watch", *names, *flags, "--plot", template + ".png"]) == 0
    out = capfd.readouterr().out.splitlines()
    for name in names:
        stem = Path(name).stem
        written = lines(tmp_path / f"{stem}.jsonl")
        assert [e["text"] for e in written if e["event"] == "caption"] == alone[name]
        assert {e["source"] for e in written} == {name}
        assert sum(line.startswith(f"{Path(name).name}  [") for line in out) == len(written)
        assert (tmp_path / f"{stem}.png").stat().st_size
    assert command(["watch", *names, *flags]) == 0  # from the states: nothing is left to tell
    assert capfd.readouterr().out == ""
    assert {m.source for m in mmworld.recall(tmp_path / "m")} == set(names)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "a.srt"], "a.srt would hold"),
        (["--state", "{ext}"], "state would hold"),
        (["-o", "{sten}.srt"], "{sten} in '{sten}.srt' (known: stem, ext, name, index)"),
        (["--with", "sensor=a.csv"], "--with beside 2 sources (one source and those on its clock, or several without"),
    ],
)
def test_several_sources_that_cannot_be_told_apart(
    flags: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(["watch", SCENE, SOUNDS, *flags]) == 2
    assert message in capfd.readouterr().err
    assert command(["watch", "-", "-"]) == 2
    assert "- twice: there is one standard input" in capfd.readouterr().err
