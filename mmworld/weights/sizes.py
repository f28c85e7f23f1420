"""Types of the sizes in a checkpoint's config.json: what is beyond them is refused before anything is built."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Depth = Annotated[int, Field(gt=0, le=1024)]
"""Layers."""
Width = Annotated[int, Field(gt=0, le=1 << 20)]
"""Channels, heads, ids, positions."""
