"""What benchmarks have in common: figures as a file, with when and where they were measured, and the memory in use."""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any


def write(path: Path, **found: Any) -> None:
    """Write what was found as JSON, with the date, the machine and torch's version."""
    about = {"schema_version": 1, "date": date.today().isoformat(), "machine": platform.machine()}
    about |= {"cpus": os.cpu_count(), "torch": version("torch")}
    path.write_text(json.dumps(about | found, indent=1) + "\n")


def in_turn(runs: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, list[float]]:
    """Seconds that each run took, all of them in turn and `repeat` times over: a busy machine is busy for all."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return taken


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
