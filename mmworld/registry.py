"""Names to objects, resolved when asked for: nothing is imported until it is used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from mmworld.errors import ConfigError


def resolve(address: str) -> Any:
    """The object at "package.module:attribute"."""
    module, _, attribute = address.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry:
    """Names of one kind of thing, from a table and from an entry-point group that other packages may add to."""

    def __init__(self, kind: str, table: dict[str, str] | None = None, group: str | None = None) -> None:
        self.kind = kind
        self._table = dict(table or {})
        self._group = group

    def _addresses(self) -> dict[str, str]:
        if self._group is None:
            return self._table
        return {e.name: e.value for e in entry_points(group=self._group)} | self._table

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._addresses()))

    def __contains__(self, name: object) -> bool:
        return name in self._addresses()

    def get(self, name: str) -> Any:
        """The object registered as `name`; ConfigError, with the nearest names, if there is none."""
        addresses = self._addresses()
        if name not in addresses:
            near = difflib.get_close_matches(name, addresses, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(sorted(addresses))}"
            raise ConfigError(f"no {self.kind} named {name!r}", hint=hint)
        return resolve(addresses[name])


modalities = Registry("modality", group="mmworld.modalities")
