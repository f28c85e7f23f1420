"""How fast, how soon and in how much memory files are captioned; each figure from a process of its own.

    python benchmarks/caption_stream.py [--model nano] [--minutes 60] [--repeat 3] [--only NAME] [--json FILE]

Inputs are rendered: half a minute is encoded once and its packets repeated to the length that is needed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from figures import resident

CLIP = 30
MIB = 1 << 20


def repeat_packets(source: Path, target: Path, times: int) -> None:
    """`source` played `times` over, its packets copied."""
    import av

    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        packets = [p for p in given.demux() if p.dts is not None]
        # A stream begins before 0 and ends after the clip (an encoder's delay); none may run into its repetition.
        span = max(p.time_base * (p.dts + p.duration) for p in packets) - min(p.time_base * p.dts for p in packets)
        for i in range(times):
            for packet in packets:
                # A copy: muxing rescales a packet's times in place.
                again = av.Packet(bytes(packet))
                shift = math.ceil(span * i / packet.time_base)
                again.pts, again.dts = packet.pts + shift, packet.dts + shift
                again.time_base, again.duration, again.is_keyframe = (
                    packet.time_base,
                    packet.duration,
                    packet.is_keyframe,
                )
                again.stream = streams[packet.stream.index]
                out.mux(again)


def peak() -> int:
    """Of this process alone; ru_maxrss would begin at what the parent held, which rendered the film."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def child_caption(path: str, model: str, modality: str = "") -> dict[str, Any]:
    """Caption a file; seconds to the first caption and to the last, and resident bytes at each minute of the file."""
    started = time.perf_counter()
    import mmworld

    first, n, memory = None, 0, {}

    def tap(chunk: Any) -> None:
        memory.setdefault(int(chunk.end // 60), resident())

    only = {"modalities": [modality]} if modality else {}
    loaded = mmworld.load(model)
    ready = time.perf_counter()
    for _ in mmworld.stream(path, model=loaded, tap=tap, **only):
        first, n = first or time.perf_counter() - started, n + 1
    ended = time.perf_counter()
    return {"first": first, "seconds": ended - ready, "captions": n, "memory": memory, "peak": peak()}


def child_decode(path: str, model: str) -> dict[str, Any]:
    """Decode a file as captioning would, without a model; the peak over what the libraries alone take."""
    from mmworld.media.gate import open_media
    from mmworld.media.pictures import Pictures
    from mmworld.media.read import read

    base, started = resident(), time.perf_counter()
    n = sum(1 for _ in read(open_media(path), video=Pictures(4.0, 96)))
    return {"seconds": time.perf_counter() - started, "frames": n, "base": base, "peak": peak()}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"caption": child_caption, "decode": child_decode}


def run(child: str, *arguments: str) -> dict[str, Any]:
    """What a child measured, in a process whose threads wait as those of the `mmworld` command do."""
    command = [sys.executable, __file__, "--child", child, *arguments]
    out = subprocess.run(command, capture_output=True, check=True, env={"OMP_WAIT_POLICY": "passive", **os.environ})
    return dict(json.loads(out.stdout.splitlines()[-1]))


def start_up(command: list[str]) -> dict[str, float]:
    """Wall seconds and peak MiB of a command. A child's peak begins at its parent's, so import nothing large before."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return {"seconds": time.perf_counter() - started, "MiB": usage.ru_maxrss * 1024 / MIB}


def median_of(repeat: int, once: Callable[[], dict[str, Any]], key: str) -> tuple[float, list[dict[str, Any]]]:
    runs = [once() for _ in range(repeat)]
    return statistics.median(r[key] for r in runs), runs


class Bench:
    """Makes the inputs it needs in `folder`; each measure returns (name, value, unit, goal) rows."""

    def __init__(self, folder: Path, model: str, minutes: int, repeat: int) -> None:
        self.folder, self.model, self.minutes, self.repeat = folder, model, minutes, repeat

    def film(self, height: int, seconds: int) -> Path:
        path, clip = self.folder / f"{height}-{seconds}.mp4", self.folder / f"{height}.mp4"
        if not clip.exists():
            from decode import render

            render(clip, CLIP, height)
        if not path.exists():
            repeat_packets(clip, path, max(seconds // CLIP, 1))
        return path

    def starting(self) -> list[tuple[str, float, str, str]]:
        command = [str(Path(sys.executable).with_name("mmworld")), "--help"]
        seconds, runs = median_of(2 * self.repeat + 1, lambda: start_up(command), "seconds")
        load, _ = median_of(2 * self.repeat + 1, lambda: start_up([sys.executable, "-c", "import mmworld"]), "seconds")
        return [
            ("mmworld --help", seconds, "s", "<= 0.3"),
            ("mmworld --help, peak", statistics.median(r["MiB"] for r in runs), "MiB", "<= 60"),
            ("import mmworld", load, "s", "<= 0.3"),
        ]

    def speed(self) -> list[tuple[str, float, str, str]]:
        film = str(self.film(720, 120))
        video, _ = median_of(self.repeat, lambda: run("caption", film, self.model), "seconds")
        sound, _ = median_of(self.repeat, lambda: run("caption", film, self.model, "audio"), "seconds")
        return [
            ("720p video with sound", 120 / video, "x real time", ">= 8"),
            ("its sound alone", 120 / sound, "x real time", ">= 60"),
        ]

    def long(self) -> list[tuple[str, float, str, str]]:
        got = run("caption", str(self.film(720, self.minutes * 60)), self.model)
        memory = {int(k): v for k, v in got["memory"].items()}
        last = max(memory)
        return [
            (f"first caption of {self.minutes} minutes", got["first"], "s from start", "<= 3"),
            ("resident at minute 1", memory[1] / MIB, "MiB", ""),
            (f"resident at minute {last}", memory[last] / MIB, "MiB", ""),
            (f"resident, minute {last} over minute 1", memory[last] / memory[1], "ratio", "0.95 to 1.05"),
            (
                f"{self.minutes} minutes of 720p video with sound",
                self.minutes * 60 / got["seconds"],
                "x real time",
                ">= 8",
            ),
        ]

    def decoding(self) -> list[tuple[str, float, str, str]]:
        seconds = 2 * self.minutes * 60
        got = run("decode", str(self.film(1080, seconds)), self.model)
        return [
            (
                f"decoding {seconds // 60} minutes of 1080p, over the base",
                (got["peak"] - got["base"]) / MIB,
                "MiB",
                "<= 400",
            ),
            (f"decoding {seconds // 60} minutes of 1080p", seconds / got["seconds"], "x real time", ""),
        ]


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        return
    measures = ("starting", "speed", "long", "decoding")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--minutes", type=int, default=60, help="length of the long file; the 1080p one is twice as long"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=measures, action="append")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.model, options.minutes, options.repeat)
        for name in options.only or measures:
            for what, value, unit, goal in getattr(bench, name)():
                rows.append({"name": what, "value": round(value, 3), "unit": unit, "goal": goal})
                print(f"{what:48}{value:10.2f} {unit:14}{goal}", flush=True)
    if options.json:
        about = {
            "date": str(date.today()),
            "machine": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
        }
        options.json.write_text(json.dumps({"schema_version": 1, **about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
