"""YAML files to frozen dataclasses: unknown keys and wrong types are refused, `a.b=value` overrides apply last."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import yaml

from mmworld.errors import ConfigError

T = TypeVar("T")
MAX_BYTES = 1 << 20


@dataclass_transform(frozen_default=True)
def config(cls: type[T]) -> type[T]:
    """Decorator: a frozen dataclass that `build` fills strictly."""
    cls.__pydantic_config__ = {"extra": "forbid", "strict": True}  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


def load(cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Read `path` into the dataclass `cls`, with "key.sub=value" overrides in YAML notation.

    Raises:
        ConfigError: the file is missing, too large or not YAML; a key is unknown; a value has the wrong type.
    """
    data = read(path)
    for override in overrides:
        _apply(data, override)
    return build(cls, data, where=str(path))


def read(path: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file of at most MAX_BYTES; ConfigError if there is none."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes, the limit for a config is {MAX_BYTES}")
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not valid YAML: {e}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping, is a {type(data).__name__}")
    return data


def build(cls: type[T], data: dict[str, Any], *, where: str = "config") -> T:
    """The `@config` class `cls`, nested ones too, from plain data: no unknown key, no silent conversion of types."""
    from pydantic import TypeAdapter, ValidationError

    try:
        # JSON's strict rules are YAML's: a mapping fills a dataclass and a list a tuple, but "1" is no number.
        return TypeAdapter(cls).validate_json(json.dumps(data, default=str))
    except ValidationError as e:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg'].lower()}" for f in e.errors()[:3])
        raise ConfigError(f"{where}: {faults}") from None


def pick(cls: type[T], data: Mapping[str, Any], *, where: str = "config") -> T:
    """The `@config` class `cls` from those keys of `data` that it has: for files of others, which say more than counts.

    Raises:
        ConfigError: a value has the wrong type, or one that is needed is missing.
    """
    return build(cls, {f.name: data[f.name] for f in fields(cls) if f.name in data}, where=where)  # type: ignore[arg-type]


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r}", hint="write key.sub=value")
    *parents, leaf = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
    data[leaf] = yaml.safe_load(value)
