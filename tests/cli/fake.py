"""The command line with a captioner that needs no weights: python fake.py VERB …; FAKE_PAUSE seconds a caption."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from mmworld.cli import main, work
from mmworld.cli.formats import Origin
from mmworld.errors import MediaError
from mmworld.types import Caption, Chunk


class Fake:
    """A caption a second, "N things in NAME"; an input with "bad" in its name fails after two."""

    def stream(
        self, media: Any, *, start: float, end: float | None, fps: float | None, tap: Callable[[Chunk], None] | None
    ) -> Iterator[Caption]:
        """Captions that tile the input."""
        length = end or media.duration or 3.0
        time_, i = start, 0
        while time_ < length:
            until = min(time_ + 1.0, length)
            if "bad" in media.name and i == 2:
                raise MediaError("truncated", f"{media.name}: broken after {time_:g} s")
            time.sleep(float(os.environ.get("FAKE_PAUSE", "0")))
            yield Caption(f"{i} things in {os.path.basename(media.name)}", time_, until, -0.5, media.name)
            time_, i = until, i + 1


def install() -> None:
    """Put the fake where the model would be."""
    work.Work.captioner = Fake()  # type: ignore[assignment]
    work.Work.origin = Origin("", "fake", "0", 0)  # type: ignore[assignment]


if __name__ == "__main__":
    install()
    main()
