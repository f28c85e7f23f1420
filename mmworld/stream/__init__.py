"""Streams of chunks, and when to speak of them.

The package can be called: `mmworld.stream(source)` is `mmworld.verbs.caption.stream`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mmworld.registry import resolve
from mmworld.types import Caption


class _Stream(ModuleType):
    def __call__(self, source: Any, **options: Any) -> Iterator[Caption]:
        return resolve("mmworld.verbs.caption:stream")(source, **options)


sys.modules[__name__].__class__ = _Stream
