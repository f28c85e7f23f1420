"""What a terminal shows while a stream is watched: how far each source is, what waits, what was left out."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmworld.cli.console import shown
from mmworld.cli.formats import clock
from mmworld.cli.inputs import base

EVERY = 0.5
"""Seconds between two looks."""
STALLED = 5.0
"""Seconds without anything after which a live source counts as stalled."""


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


def state(live: Any, now: float) -> dict[str, Any]:
    """How a stream stands, as plain data."""
    sources = []
    for lane in live.lanes:
        quiet = now - lane.arrived
        sources.append(
            {
                "source": shown(base(lane.name), 40),
                "time": round(max(max(lane.clocks.values(), default=0.0), 0.0), 3),
                "waiting": len(lane.items),
                "left_out": dict(lane.counts),
                "quiet": round(quiet, 1),
                "one_in": lane.step,
                "state": "ended" if lane.ended else "stalled" if lane.live and quiet > STALLED else "read",
            }
        )
    late = {f"p{round(100 * part)}": round(live.delay(part), 3) for part in (0.5, 0.95)}
    held = {"state_bytes": live.nbytes, "resident_bytes": resident()}
    stalls = [shown(str(stall), 200) for stall in live.stalls]
    return {"sources": sources, "delay": late, "unsaid": live.unsaid, "stalls": stalls, **held}


def resident() -> int:
    """Bytes of memory that this process has, 0 where that cannot be told."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (ImportError, OSError):
        return 0


def _lines(live: Any, done: threading.Event) -> None:
    import json

    while not done.wait(EVERY):
        print(json.dumps({"event": "watching", **state(live, time.monotonic())}), file=sys.stderr, flush=True)


def _drawn(live: Any, done: threading.Event) -> None:
    from rich.console import Console
    from rich.live import Live as Screen

    redirected = sys.stdout is not None and sys.stdout.isatty()
    console = Console(stderr=True)
    speeds: dict[str, tuple[float, float]] = {}
    with Screen(console=console, transient=True, auto_refresh=False, redirect_stdout=redirected) as screen:
        while not done.wait(EVERY):
            screen.update(table(state(live, time.monotonic()), speeds, time.monotonic()), refresh=True)


def table(now: dict[str, Any], speeds: dict[str, tuple[float, float]], at: float) -> Any:
    """The state as a table for people; `speeds` remembers where each source was."""
    from rich.markup import escape
    from rich.table import Table

    found = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("source", "time", "speed", "waits", "left out", ""):
        found.add_column(name, justify="left" if name in ("source", "left out", "") else "right")
    for source in now["sources"]:
        name, time_there = source["source"], source["time"]
        was, then = speeds.get(name, (time_there, at))
        speed = f"{(time_there - was) / (at - then):.1f}x" if at > then else ""
        speeds.setdefault(name, (time_there, at))
        out = ", ".join(f"{n} {reason}" for reason, n in source["left_out"].items())
        rate = f", one frame in {source['one_in']}" if source["one_in"] > 1 else ""
        found.add_row(name, clock(time_there), speed, str(source["waiting"]), out, source["state"] + rate)
    late, mib = now["delay"], [now[k] / 2**20 for k in ("state_bytes", "resident_bytes")]
    unsaid = f", {now['unsaid']} untold" if now["unsaid"] else ""
    told = f"late {late['p50']:.2f} s, one in twenty {late['p95']:.2f} s{unsaid}; {mib[0]:.0f} of {mib[1]:.0f} MiB"
    found.caption = "\n".join([told, *map(escape, now["stalls"])])
    found.caption_justify = "left"
    return found
