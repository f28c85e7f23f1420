"""Synthetic speakers: spoken digits by espeak-ng, where it is installed."""

from __future__ import annotations

import itertools
import logging
import random
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mmworld.train.real import DIGITS, waveform
from mmworld.train.store import Decoded, Store, cached

log = logging.getLogger(__name__)

ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc")
TIMBRES = (
    *(f"m{i}" for i in range(1, 9)),
    *(f"f{i}" for i in range(1, 6)),
    *("klatt", "klatt2", "klatt3", "adam", "Alex", "Andy", "Denis", "Diogo", "Gene", "Lee", "Mike", "Mario", "steph"),
)
SPEAKERS = 720


def synthetic_digits() -> Store | None:
    """Ten digits by SPEAKERS random voices, float32 [S] at 16 kHz; None, said in the log, without espeak-ng."""
    program = shutil.which("espeak-ng")
    if program is None:
        log.warning("espeak-ng is not installed: training without synthetic speakers")
        return None
    return cached(f"espeak-digits-{SPEAKERS}", lambda: _speak_all(program))


def _speak_all(program: str) -> Iterable[tuple[str, Decoded]]:
    rng = random.Random(0)
    voices = rng.sample(list(itertools.product(ACCENTS, TIMBRES)), len(ACCENTS) * len(TIMBRES))
    jobs = [
        (f"{accent}+{timbre}", rng.randint(15, 85), rng.randint(130, 310), digit)
        for accent, timbre in itertools.islice(itertools.cycle(voices), SPEAKERS)
        for digit in range(10)
    ]
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(lambda job: _speak(program, *job), jobs)


def _speak(program: str, voice: str, pitch: int, speed: int, digit: int) -> tuple[str, Decoded]:
    command = [program, "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", DIGITS[digit]]
    wav = subprocess.run(command, check=True, capture_output=True, timeout=20).stdout
    key = f"{voice}-{pitch}-{speed}-{digit}"
    return key, (waveform(wav), [f"someone says {DIGITS[digit]}"])
