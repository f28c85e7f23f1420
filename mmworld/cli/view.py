"""What a terminal shows while a stream is watched: how far each source is, what waits, what was left out, how late the
captions are, and what is held."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmworld.cli.console import shown
from mmworld.cli.formats import clock
from mmworld.cli.inputs import base

EVERY = 0.5
"""Seconds between two looks."""
LOOKS = 20
"""Over so many of them a rate is taken."""
STALLED = 5.0
"""Seconds without anything after which a live source counts as stalled."""
PARTS = (0.5, 0.95)
"""Of the captions, within whose delays they came."""


@contextmanager
def view(live: Any, kind: str) -> Iterator[None]:
    """While inside, show the state of `live` on stderr: as a table on a terminal ("auto"), as JSON lines, or not."""
    if kind == "none" or sys.stderr is None or (kind == "auto" and not sys.stderr.isatty()):
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_drawn if kind == "auto" else _lines, args=(live, done), daemon=True, name="view")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(2 * EVERY)


class Looks:
    """Looks at a stream again and again; its rates are those since the look before the last LOOKS."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._before: deque[tuple[float, list[float]]] = deque(maxlen=LOOKS)

    def state(self, now: float) -> dict[str, Any]:
        """How it stands at `now`, seconds of the machine's clock, as plain data."""
        live = self._live
        times = [max(0.0, *lane.clocks.values()) for lane in live.lanes]
        then, there = self._before[0] if self._before else (now, times)
        self._before.append((now, times))
        rates = [(a - b) / (now - then) if now > then else None for a, b in zip(times, there, strict=True)]
        return {
            "sources": [_source(*x, now) for x in zip(live.lanes, times, rates, strict=True)],
            "captions": live.captions,
            "unsaid": live.unsaid,
            "stalls": [shown(str(stall), 200) for stall in live.stalls],
            "delay": {f"p{round(100 * part)}": round(live.delay(part), 3) for part in PARTS},
            "tokens": {n: {"made": made, "left_out": made - kept} for n, (made, kept) in live.tokens.items()},
            "state_bytes": live.nbytes,
            "resident_bytes": resident(),
        }


def _source(lane: Any, there: float, rate: float | None, now: float) -> dict[str, Any]:
    quiet = now - lane.arrived
    return {
        "source": shown(base(lane.name), 40),
        "time": round(there, 3),
        "rate": None if rate is None else round(rate, 2),
        "waiting": len(lane.items),
        "left_out": dict(lane.counts),
        "quiet": round(quiet, 1),
        "one_in": lane.step,
        "state": "ended" if lane.ended else "stalled" if lane.live and quiet > STALLED else "read",
    }


def resident() -> int:
    """Bytes of memory that this process has, 0 where that cannot be told."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return 0


def _lines(live: Any, done: threading.Event) -> None:
    """A line at each look, and one at the end."""
    looks, more = Looks(live), True
    while more:
        more = not done.wait(EVERY)
        print(json.dumps({"event": "watching", **looks.state(time.monotonic())}), file=sys.stderr, flush=True)


def _drawn(live: Any, done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live as Screen

    redirected = sys.stdout is not None and sys.stdout.isatty()
    looks = Looks(live)
    with Screen(console=Console(stderr=True), transient=True, auto_refresh=False, redirect_stdout=redirected) as screen:
        while not done.wait(EVERY):
            screen.update(table(looks.state(time.monotonic())), refresh=True)


def table(now: dict[str, Any]) -> Any:
    """The state for people: a row for each source, and what holds for all below."""
    from rich.console import Group

    return Group(_sources(now["sources"]), _summary(now))


def _sources(sources: list[dict[str, Any]]) -> Any:
    """Where it is narrow, names are cut and what was left out is wrapped; figures never are."""
    from rich.table import Table
    from rich.text import Text

    found = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    found.add_column("source", overflow="ellipsis", min_width=8)
    for name, width in (("time", 8), ("rate", 5), ("waits", 5)):
        found.add_column(name, justify="right", no_wrap=True, min_width=width)
    found.add_column("left out", min_width=8)
    found.add_column("state", no_wrap=True, min_width=12)
    for s in sources:
        rate = "" if s["rate"] is None or s["state"] == "ended" else f"{s['rate']:.1f}x"
        out = ", ".join(f"{n} {reason}" for reason, n in s["left_out"].items())
        thinned = f", 1 in {s['one_in']}" if s["one_in"] > 1 else ""
        state = f"{s['quiet']:.0f} s quiet" if s["state"] == "stalled" else s["state"] + thinned
        found.add_row(Text(s["source"]), clock(s["time"])[:-2], rate, str(s["waiting"]), out, state)
    return found


def _summary(now: dict[str, Any]) -> Any:
    """A line each of captions, their latency, tokens, where any were left out, and memory."""
    from rich.table import Table
    from rich.text import Text

    found = Table.grid(padding=(0, 2, 0, 0))
    found.add_column(style="dim", no_wrap=True, min_width=8)
    found.add_column(overflow="fold")
    unsaid = f", {now['unsaid']} untold" if now["unsaid"] else ""
    found.add_row("captions", f"{now['captions']}{unsaid}")
    if now["captions"]:
        found.add_row("latency", ", ".join(f"{part} {late:.2f} s" for part, late in now["delay"].items()))
    if thinned := spared({n: (t["made"], t["made"] - t["left_out"]) for n, t in now["tokens"].items()}):
        found.add_row("tokens", "; ".join(thinned))
    for stall in now["stalls"]:
        found.add_row("hangs", Text(stall))
    held, resident = (f"{now[k] / 2**20:.0f} MiB" for k in ("state_bytes", "resident_bytes"))
    found.add_row("memory", f"{held} of the stream, {resident} in all")
    return found


def spared(tokens: Mapping[str, tuple[int, int]]) -> list[str]:
    """Of each sense of which tokens were left out, how many of how many; `tokens` are those of a `Live`."""
    gone = {n: (made - kept, made) for n, (made, kept) in tokens.items() if kept < made}
    return [f"{n}: {left_out} of {made} left out ({left_out / made:.0%})" for n, (left_out, made) in gone.items()]
