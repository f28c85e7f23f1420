"""Seeded synthetic media with exact captions: a numpy Generator in, chunks and their one true sentence out."""

from __future__ import annotations

from mmworld.render.words import Facts, Rendered, facts

__all__ = ["Facts", "Rendered", "facts"]
