"""The command line with a captioner that needs no weights: python fake.py VERB …; FAKE_PAUSE seconds a caption."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

from mmworld.cli import main, work
from mmworld.cli.formats import Origin
from mmworld.errors import MediaError
from mmworld.types import Caption


class Fake:
    """A caption a second, "I things in NAME"; an input with "broken" in its name fails after two."""

    def stream_many(
        self, sources: Iterable[Any], *, start: float, end: float | None, fps: float | None, tap: Any
    ) -> Iterator[Any]:
        """Captions that tile each input."""
        for media in sources:
            length = end or media.duration or 3.0
            for i in range(round(length - start)):
                if "broken" in media.name and i == 2:
                    error = MediaError("truncated", f"{media.name}: broken after {i} s")
                    yield SimpleNamespace(source=media.name, error=error)
                    break
                time.sleep(float(os.environ.get("FAKE_PAUSE", "0")))
                yield Caption(f"{i} things", start + i, start + i + 1, -0.5, media.name)


def install() -> None:
    """Put the fake where the model would be."""
    work.Work.captioner = Fake()  # type: ignore[assignment]
    work.Work.origin = Origin("", "fake", "0", 0)  # type: ignore[assignment]


if __name__ == "__main__":
    install()
    main()
