"""The real captioner behind the command line: an untrained model of all modalities, on the sample media."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest
import torch

from mmworld.cli import command
from mmworld.models.world import World, WorldConfig
from mmworld.nn.transformer import TransformerConfig
from mmworld.text.tokenizer import Tokenizer

SAMPLES = Path(__file__).parents[2] / "mmworld" / "samples"
NAMES = ("scene.mp4", "sounds.wav", "shapes.png", "solid.ply", "motion.csv")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny model that says something, if nothing true."""
    texts = ["a red ball rolls over the green grass", "two dogs bark at a man who plays the drum", "it rains"]
    tokenizer = Tokenizer.train(texts * 4, 300)
    sizes = {"dim": 32, "depth": 1, "n_heads": 2, "hidden": 48}
    adapters = {name: dict(sizes) for name in ("image", "video", "audio", "points", "sensor")}
    torch.manual_seed(0)
    world = World(WorldConfig(TransformerConfig(**{**sizes, "depth": 2}), adapters, len(tokenizer)), tokenizer)
    with torch.no_grad():  # else an untrained model repeats its last id, or ends at once
        world.embedding[:259] *= 0.1
        for layer in world.backbone.layers:
            layer.attention.out.weight *= 8
            layer.feed.down.weight *= 8
    folder = tmp_path_factory.mktemp("models") / "tiny"
    world.save(folder)
    return str(folder)


def lines(capsys: Capture, *argv: str) -> list[dict[str, object]]:
    assert command(["caption", *argv, "-f", "jsonl"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_sample_is_captioned_and_side_by_side_is_the_same(model: str, capsys: Capture) -> None:
    paths = [str(SAMPLES / name) for name in NAMES]
    together = lines(capsys, *paths, "--model", model)
    apart = [line for path in paths for line in lines(capsys, path, "--model", model)]
    assert {line["source"] for line in together} == set(paths)
    assert all(line["text"] for line in together)
    keys = ("source", "id", "start", "end", "text")
    assert [[line[key] for key in keys] for line in together] == [[line[key] for key in keys] for line in apart]


def test_captions_tile_the_input_and_the_picture_is_drawn(model: str, tmp_path: Path, capsys: Capture) -> None:
    plot = tmp_path / "scene.png"
    said = lines(capsys, str(SAMPLES / "scene.mp4"), "--model", model, "--every", "2", "--plot", str(plot))
    assert [line["start"] for line in said] == [0.0, 2.0, 4.0, 6.0][: len(said)]
    assert all(a["end"] == b["start"] for a, b in itertools.pairwise(said))
    assert plot.read_bytes()[:4] == b"\x89PNG"


def test_standard_input_is_the_same_as_a_file(model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SAMPLES / "sounds.wav"
    expected = [line["text"] for line in lines(capsys, str(path), "--model", model, "--every", "1")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert [line["text"] for line in lines(capsys, "-", "--model", model, "--every", "1")] == expected
    with wave.open(str(path)) as file:
        raw = file.readframes(file.getnframes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    said = lines(capsys, "-", "--model", model, "--every", "1", "--input-format", "s16le:16000:1")
    assert [line["text"] for line in said] == expected


def test_empty_standard_input_is_4(model: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert command(["caption", "-", "--model", model]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_standard_input_that_never_ends_streams(model: str) -> None:
    code = "import sys; from mmworld.cli import main; main()"
    argv = ["caption", "-", "--input-format", "s16le:16000:1", "--model", model, "--every", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    generator = torch.Generator().manual_seed(0)
    noise = (torch.rand(4 * 16000, generator=generator) * 20000 - 10000).short().numpy().tobytes()
    process.stdin.write(noise)
    process.stdin.flush()
    assert process.stdout.readline().startswith(b"[00:0")  # while the pipe stays open
    assert process.poll() is None
    process.terminate()
    begun = time.monotonic()
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - begun < 10
    process.stdin.close()


def test_a_folder_of_clouds_is_one_stream_if_asked(model: str, tmp_path: Path, capsys: Capture) -> None:
    for i in range(3):
        (tmp_path / f"sweep{i}.ply").write_bytes((SAMPLES / "solid.ply").read_bytes())
    sources = [line["source"] for line in lines(capsys, str(tmp_path), "--model", model)]
    assert sources == [str(tmp_path / f"sweep{i}.ply") for i in range(3)]
    said = lines(capsys, str(tmp_path), "--model", model, "--sweeps", "--at-end")
    assert [line["source"] for line in said] == [str(tmp_path)]


def test_limits_refuse(model: str, capsys: Capture) -> None:
    scene = str(SAMPLES / "scene.mp4")
    assert command(["caption", scene, "--model", model, "--limit-pixels", "1000"]) == 4
    error = capsys.readouterr().err
    assert "scene.mp4" in error
    assert "1000" in error


def test_a_truncated_film_is_salvaged_with_3(model: str, tmp_path: Path, capsys: Capture) -> None:
    data = (SAMPLES / "scene.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    assert command(["caption", str(tmp_path / "cut.mp4"), "--model", model, "--every", "1"]) == 3
    captured = capsys.readouterr()
    assert captured.out
    assert "truncated" in captured.err


def test_a_damaged_model_is_5(model: str, tmp_path: Path, capsys: Capture) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(model).iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:-100])
    sound = str(SAMPLES / "sounds.wav")
    assert command(["caption", sound, "--model", str(broken)]) == 5
    assert command(["caption", sound, "--model", "nothing"]) == 5
    error = capsys.readouterr().err
    assert error.count("\n") == 2


def test_a_device_that_is_not_there_is_6(model: str, capsys: Capture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert command(["caption", str(SAMPLES / "sounds.wav"), "--model", model, "--device", "cuda"]) == 6
    assert "doctor" in capsys.readouterr().err


def test_models_prints_a_model(model: str, capsys: Capture) -> None:
    assert command(["models", model, "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["parameters"] > 1000
    assert entry["schema_version"] == 1
    assert command(["models"]) == 0
    assert "meta-llama/Llama-3.2-1B" in capsys.readouterr().out


def test_systems_are_measured_when_asked(capsys: Capture) -> None:
    pytest.importorskip("transformers")
    assert command(["models", "--verify", "--json"]) == 0
    systems = json.loads(capsys.readouterr().out)["systems"]
    assert {s["name"] for s in systems} >= {"BERT", "CLIP", "LLaVA 1.5", "Whisper"}
    assert all(s["within"] and 0 <= s["error"] <= 2e-5 for s in systems if s["types"])


def test_doctor_says_one_line_a_fact(capsys: Capture) -> None:
    code = command(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    facts = {fact["name"]: fact for fact in document["facts"]}
    assert {"python", "torch", "torchaudio", "device", "av", "codecs", "open3d", "cache", "offline"} <= set(facts)
    assert all(fact["fix"] for fact in facts.values() if not fact["ok"] and not fact["name"].startswith("attention"))
    assert code == (0 if document["works"] else 1)
    assert document["works"] == all(fact["ok"] for fact in facts.values() if fact["needed"])
    assert command(["doctor"]) == code
    assert len(capsys.readouterr().out.splitlines()) == len(facts)


def test_data_counts_what_shards_hold(tmp_path: Path, capsys: Capture) -> None:
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(3):
            for suffix in ("txt", "wav"):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = 4
                tar.addfile(member, io.BytesIO(b"data"))
    (tmp_path / "b.tar").write_bytes(b"no tar")
    assert command(["data", str(tmp_path / "a.tar"), "--json"]) == 0
    shard = json.loads(capsys.readouterr().out)["shards"][0]
    assert (shard["samples"], shard["suffixes"]) == (3, {"txt": 3, "wav": 3})
    assert command(["data", str(tmp_path)]) == 3
    assert command(["data", str(tmp_path / "b.tar")]) == 4


def test_samples_are_small_and_say_what_is_true() -> None:
    captions = json.loads((SAMPLES / "captions.json").read_text())
    assert tuple(captions) == NAMES
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 1_000_000
