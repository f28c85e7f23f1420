"""Mutated files for every parser: python -m tests.fuzz --n 100000 [--formats ply,mp4] [--seed S].

Every run must end in a sound result or an MMWorldError, within 10 s and 1.5 GB. Anything else is a finding, kept with
its seed: `--n 1 --seed S` does it again. A run's seed decides its format, file and mutations.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing as mp
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as to_safetensors

from mmworld.errors import MMWorldError
from mmworld.media import audio, image, video
from mmworld.media.gate import open_media
from mmworld.modalities.pointcloud.readers import read_cloud
from mmworld.modalities.pointcloud.sweeps import read_sweeps
from mmworld.modalities.sensor.readers import read_series
from mmworld.weights.checkpoint import load_safetensors

sys.path.insert(0, str(Path(__file__).parent))
import clips
import clouds

SECONDS = 10
MEMORY = 1_500_000_000
HANG = 30  # seconds after which a worker stuck in native code is killed
NUMBERS = [0, 1, 2, 3, 7, 127, 128, 255, 256, 65535, 65536, 10**6, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -1]
Random = np.random.Generator


class TooSlow(BaseException):
    """Not an Exception, so that no parser mistakes it for a damaged file."""


# What is parsed


def cloud(data: bytes, name: str) -> None:
    found = read_cloud(_named(data, name))
    assert found.points.shape[1:] == (11,)
    assert torch.isfinite(found.points).all()
    assert found.dropped >= 0
    assert found.faces is None or torch.isin(found.faces, torch.arange(len(found.points))).all()
    if name.endswith("npz"):
        for start, end, points in read_sweeps(_named(data, name), 0.5):
            assert start < end
            assert torch.isfinite(points).all()


def member(data: bytes, name: str) -> None:
    """One array of an archive that is sound otherwise."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("xyz.npy", data)
        out.writestr("t.npy", clouds.write_npy(np.arange(60) * 0.1))
    cloud(archive.getvalue(), name)


def series(data: bytes, name: str) -> None:
    for rate in (None, 20.0):
        try:
            for start, end, values in read_series(_named(data, name), rate):
                assert len(values) > 0
                assert start <= end
                assert torch.isfinite(values).all()
        except MMWorldError:
            if rate:
                raise


def picture(data: bytes, name: str) -> None:
    media = open_media(_named(data, name))
    assert image.read(media).shape[0] == 3


def clip(data: bytes, name: str) -> None:
    media = open_media(_named(data, name))
    if media.has_video:
        for frame in video.frames(media, fps=10, size=64):
            assert frame.data.shape == (3, 64, 64)
    if media.has_audio:
        for piece in audio.samples(media, rate=16000):
            assert torch.isfinite(torch.as_tensor(piece.data)).all()


def weights(data: bytes, name: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(data)
        file.flush()
        load_safetensors(file.name)


def _named(data: bytes, name: str) -> io.BytesIO:
    file = io.BytesIO(data)
    file.name = name  # type: ignore[attr-defined]
    return file


# Good files to begin with


@dataclass(frozen=True)
class Format:
    parse: Callable[[bytes, str], None]
    name: str
    files: tuple[bytes, ...]


def _columns(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    places = {k: rng.normal(0, 5, n).astype("f4") for k in "xyz"}
    return places | {k: rng.integers(0, 256, n).astype("u1") for k in "rgb"} | {"intensity": rng.uniform(size=n)}


def _cloud_formats() -> dict[str, Format]:
    columns = _columns()
    places = {k: columns[k] for k in "xyz"}
    packed = clouds.pack_rgb(columns)
    points = np.stack([columns[k] for k in ("x", "y", "z")], 1)
    faces = [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
    recording = {"frame": np.arange(60) // 6, "t": np.arange(60) * 0.1, "xyz": points, "velocity": columns["x"]}
    bare = np.concatenate([points, columns["intensity"][:, None]], 1).astype("<f4").tobytes()
    ply = [clouds.write_ply(columns, f"binary_{e}_endian", faces) for e in ("little", "big")]
    files: dict[str, tuple[str, list[bytes]]] = {
        "ply": ("a.ply", [*ply, clouds.write_ply(columns, "ascii", faces)]),
        "pcd": ("a.pcd", [clouds.write_pcd(packed, e) for e in ("ascii", "binary", "binary_compressed")]),
        "xyz": ("a.xyz", [clouds.write_text(places), clouds.write_text(columns, ",")]),
        "pts": ("a.pts", [clouds.write_text(places, count=True)]),
        "off": ("a.off", [clouds.write_off(places, faces), clouds.write_off(places, faces, glued=True)]),
        "obj": ("a.obj", [clouds.write_obj(places, faces), clouds.write_obj(places, faces, "{0}/1/2")]),
        "npy": ("a.npy", [clouds.write_npy(points), clouds.write_npy(np.asfortranarray(points.astype(">f8")))]),
        "npz": ("a.npz", [clouds.write_npz(**recording)]),
        "kitti": ("a.bin", [bare]),
    }
    found = {k: Format(cloud, name, tuple(data)) for k, (name, data) in files.items()}
    return found | {"npz-member": Format(member, "a.npz", (clouds.write_npy(points),))}


def _series_formats() -> dict[str, Format]:
    rows = np.random.default_rng(0).normal(size=(80, 3))
    csv = "t,ax,ay,az\n" + "".join(f"{i / 20:.3f},{a:.4f},{b:.4f},{c:.4f}\n" for i, (a, b, c) in enumerate(rows))
    jsonl = "".join(f'{{"time": {i / 20}, "ax": {a}, "ay": {b}}}\n' for i, (a, b, _) in enumerate(rows))
    lists = "".join(f"[{a}, {b}, {c}]\n" for a, b, c in rows)
    plain = csv.split("\n", 1)[1].replace(",", ";")
    return {
        "csv": Format(series, "a.csv", (csv.encode(), plain.encode())),
        "jsonl": Format(series, "a.jsonl", (jsonl.encode(), lists.encode())),
        "series-npy": Format(series, "a.npy", (clouds.write_npy(rows), clouds.write_npy(rows.astype(">f4").T))),
    }


def _media_formats() -> dict[str, Format]:
    sound = clips.tone(0.3)
    films = {
        "mp4": {"container": "mp4"},
        "mkv": {"container": "matroska"},
        "webm": {"container": "webm", "codec": "libvpx-vp9", "sound_codec": "libopus", "sound_rate": 48000},
        "ts": {"container": "mpegts"},
        "avi": {"container": "avi", "codec": "mpeg4", "sound_codec": "libmp3lame"},
    }
    made = {k: (clips.clip(10, sound=sound, **options),) for k, options in films.items()}  # type: ignore[arg-type]
    made["mp3"] = (clips.sound_file(sound, codec="libmp3lame", container="mp3"),)
    made["flac"] = (clips.sound_file(sound, codec="flac", container="flac"),)
    made["ogg"] = (clips.sound_file(clips.tone(0.3, 48000), 48000, codec="libopus", container="ogg"),)
    made["wav"] = tuple(
        clips.wav(bytes(range(256)) * 40, 8000, 2, bits=b, code=c) for b, c in ((16, 1), (32, 3), (8, 7))
    )
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype("u1")
    stills = {k: (_still(k, noise),) for k in ("png", "jpeg", "webp", "bmp", "tiff")}
    moving = {k: (_still(k, noise, frames=3),) for k in ("gif", "png", "webp")}
    found = {k: Format(clip, f"a.{k}", files) for k, files in made.items()}
    found |= {k: Format(picture, f"a.{k}", files) for k, files in stills.items()}
    return found | {f"{k}-moving": Format(clip, f"a.{k}", files) for k, files in moving.items()}


def _still(kind: str, noise: np.ndarray, frames: int = 1) -> bytes:
    file = io.BytesIO()
    pictures = [Image.fromarray(np.roll(noise, i, 0)) for i in range(frames)]
    more = {"save_all": True, "append_images": pictures[1:], "duration": 100} if frames > 1 else {}
    pictures[0].save(file, kind, **more)  # type: ignore[arg-type]
    return file.getvalue()


def formats() -> dict[str, Format]:
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8))
    checkpoint = Format(weights, "a.safetensors", (to_safetensors(dict(module.state_dict())),))
    return _cloud_formats() | _series_formats() | _media_formats() | {"safetensors": checkpoint}


# Mutations


def mutate(data: bytes, rng: Random, other: bytes) -> bytes:
    """One to four faults: flipped bits, numbers, cuts, splices, repeats."""
    out = bytearray(data)
    for _ in range(min(rng.geometric(0.5), 4)):
        if len(out) < 2:
            break
        _MUTATIONS[rng.integers(len(_MUTATIONS))](out, rng, other)
    return bytes(out[: 1 << 20])


def _place(out: bytearray, rng: Random) -> int:
    """Anywhere, but half the time in the first 256 bytes, where headers are."""
    return int(rng.integers(min(len(out), 256 if rng.random() < 0.5 else len(out))))


def _flip(out: bytearray, rng: Random, other: bytes) -> None:
    for _ in range(rng.integers(1, 17)):
        out[_place(out, rng)] ^= 1 << rng.integers(8)


def _bytes(out: bytearray, rng: Random, other: bytes) -> None:
    i = _place(out, rng)
    out[i : i + 4] = rng.bytes(int(rng.integers(1, 5)))


def _cut(out: bytearray, rng: Random, other: bytes) -> None:
    del out[_place(out, rng) :]


def _splice(out: bytearray, rng: Random, other: bytes) -> None:
    i, j, n = _place(out, rng), int(rng.integers(len(other))), int(rng.integers(1, 200))
    out[i : i + (n if rng.random() < 0.5 else 0)] = other[j : j + n]


def _delete(out: bytearray, rng: Random, other: bytes) -> None:
    i = _place(out, rng)
    del out[i : i + int(rng.integers(1, 64))]


def _repeat(out: bytearray, rng: Random, other: bytes) -> None:
    i, n = _place(out, rng), int(rng.integers(1, 64))
    out[i:i] = out[i : i + n] * int(rng.choice([1, 2, 50, 2000]))


def _number(out: bytearray, rng: Random, other: bytes) -> None:
    """A number in text, else one in binary, becomes an awkward one."""
    value = int(rng.choice(np.array(NUMBERS, object)))
    found = list(re.finditer(rb"\d+", bytes(out[:2000])))
    if found and rng.random() < 0.5:
        match = found[rng.integers(len(found))]
        words = [str(value), f"{value}e300", "nan", "-inf", "0x1F", "1_0", "", "9" * 400]
        out[match.start() : match.end()] = str(words[rng.integers(len(words)) if rng.random() < 0.5 else 0]).encode()
        return
    size, i = int(rng.choice([1, 2, 4, 8])), _place(out, rng)
    order = "big" if rng.random() < 0.5 else "little"
    out[i : i + size] = (value % 2 ** (8 * size)).to_bytes(size, order)  # type: ignore[arg-type]


_MUTATIONS = [_flip, _bytes, _cut, _splice, _delete, _repeat, _number, _number]


def case(seed: int, known: dict[str, Format]) -> tuple[str, str, bytes]:
    """(format, file name, data) of a seed."""
    rng = np.random.default_rng(seed)
    key = sorted(known)[rng.integers(len(known))]
    files = known[key].files
    data, other = (files[rng.integers(len(files))] for _ in range(2))
    return key, known[key].name, mutate(data, rng, other)


# Runs


def run(seed: int, known: dict[str, Format]) -> tuple[str, str, str]:
    """(format, "ok" or "refused" or "finding", details)."""
    key, name, data = case(seed, known)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        known[key].parse(data, name)
    except MMWorldError:
        return key, "refused", ""
    except (Exception, TooSlow):
        return key, "finding", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return key, "ok", ""


def _slow(*_: object) -> None:
    raise TooSlow(f"more than {SECONDS} s")


def work(seeds: range, known: dict[str, Format], out: Connection) -> None:
    """One worker process: every seed's outcome is sent as it comes."""
    signal.signal(signal.SIGALRM, _slow)
    torch.set_num_threads(1)
    warnings.simplefilter("error", RuntimeWarning)  # numpy's, of values that do not fit
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    for seed in seeds:
        out.send(run(seed, known))
    out.close()


def drive(seeds: range, known: dict[str, Format], folder: Path, counts: Counter[tuple[str, str]]) -> None:
    """Run the seeds in a worker; one that dies or hangs is a finding, and another takes over after it."""
    context, i = mp.get_context("fork"), 0
    while i < len(seeds):
        receive, send = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(seeds[i:], known, send))
        worker.start()
        send.close()
        while i < len(seeds):
            try:
                outcome = receive.recv() if receive.poll(HANG) else None
            except EOFError:
                outcome = None
            if outcome is None:
                worker.kill()
                worker.join()
                outcome = case(seeds[i], known)[0], "finding", f"the worker hung or died: exit code {worker.exitcode}"
            counts[outcome[:2]] += 1
            if outcome[1] == "finding":
                _keep(folder, seeds[i], known, outcome[2])
            i += 1
            if "the worker" in outcome[2]:
                break
        worker.join()


def _keep(folder: Path, seed: int, known: dict[str, Format], details: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key, name, data = case(seed, known)
    (folder / f"{key}-{seed}{Path(name).suffix}").write_bytes(data)
    (folder / f"{key}-{seed}.log").write_text(details)
    print(f"{key} seed {seed}: {details.strip().splitlines()[-1]}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="runs")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--formats", default="", help="only these, comma-separated")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "mmworld-fuzz", help="for findings")
    args = parser.parse_args()
    av.logging.set_libav_level(av.logging.PANIC)  # not set_level: its callback waits for Python in a decoder's threads
    known = formats()
    for item in known.values():
        for data in item.files:
            item.parse(data, item.name)  # each must be good to begin with
    if args.formats:
        known = {k: known[k] for k in args.formats.split(",")}
    counts: Counter[tuple[str, str]] = Counter()
    start = time.monotonic()
    drive(range(args.seed, args.seed + args.n), known, args.out, counts)
    seconds = time.monotonic() - start
    print(f"{'format':14}{'runs':>8}{'ok':>8}{'refused':>9}{'findings':>10}")
    for key in sorted(known):
        row = [counts[key, outcome] for outcome in ("ok", "refused", "finding")]
        print(f"{key:14}{sum(row):8}{row[0]:8}{row[1]:9}{row[2]:10}")
    findings = sum(n for (_, outcome), n in counts.items() if outcome == "finding")
    where = f", kept in {args.out}" if findings else ""
    print(f"{args.n} runs in {seconds:.0f} s ({args.n / seconds:.0f} a second): {findings} findings{where}")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
