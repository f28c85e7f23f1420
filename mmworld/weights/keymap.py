"""A checkpoint's names beside ours: one table, read both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmworld.errors import CheckpointError
from mmworld.weights.checkpoint import describe, finite, fits, some

_HOLES = {"{i}": r"(\d+)", "*": r"(weight|bias)"}


@dataclass(frozen=True)
class Fuse:
    """One tensor of ours is several of theirs, one after the other.

    Attributes:
        names: theirs; None is a part that theirs has not, which is zero.
        sizes: of each along the first dimension.
    """

    names: tuple[str | None, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Transposed:
    """A matrix of ours is theirs on its side, as GPT-2 keeps it; a vector is the same."""

    name: str


@dataclass(frozen=True)
class Leading:
    """A tensor of ours is theirs without so many leading dimensions of one."""

    name: str
    ones: int


Place = str | Fuse | Transposed | Leading
"""Where a tensor of ours stands in their checkpoint."""


@dataclass(frozen=True)
class KeyMap:
    """The names of a family's checkpoints.

    In a name "{i}" stands for a number, and "*" at its end for "weight" or "bias"; both are the same on either side.

    Attributes:
        table: our names, and where each stands in theirs.
        unused: names of theirs that are left out on purpose: tables that can be computed, copies of tied weights.
        fresh: ours that no checkpoint has and that stay as they are: counts of training steps.
        aliases: beginnings of names in other versions of theirs, and what each is read as; in this order.
        endings: the same of what stands behind the last dot.
    """

    table: Mapping[str, Place]
    unused: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Theirs, with what stands for numbers."""
        return tuple(n for place in self.table.values() for n in _names(place))

    def place(self, name: str) -> Place:
        """Where our `name` stands in theirs; CheckpointError if the table does not say."""
        if name in self.table:  # one without a hole
            return self.table[name]
        for ours, place in self.table.items():
            if match := _pattern(ours).fullmatch(name):
                return _over(place, lambda n: _fill(n, match.groups()))
        raise CheckpointError(f"the key map has no place for {name!r}")

    def within(self, ours: str, theirs: str) -> KeyMap:
        """The map of a part that has these prefixes in the whole."""
        return self.moved(lambda n: f"{ours}{n}", lambda n: f"{theirs}{n}")

    def moved(self, ours: Callable[[str], str], theirs: Callable[[str], str]) -> KeyMap:
        """The map with the names of either side changed."""
        table = {ours(name): _over(place, theirs) for name, place in self.table.items()}
        aliases = {theirs(other): theirs(root) for other, root in self.aliases.items()}
        fresh = tuple(ours(n) for n in self.fresh)
        return KeyMap(table, tuple(theirs(n) for n in self.unused), fresh, aliases, self.endings)

    def __or__(self, other: KeyMap) -> KeyMap:
        """The map of a whole that has the parts of both."""
        return KeyMap(
            {**self.table, **other.table},
            self.unused + other.unused,
            self.fresh + other.fresh,
            {**self.aliases, **other.aliases},
            {**self.endings, **other.endings},
        )

    def theirs(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our tensors under their names, in their shapes."""
        out: dict[str, Tensor] = {}
        for name, x in self._own(tensors).items():
            match self.place(name):
                case str(other):
                    out[other] = x
                case Transposed(other):
                    out[other] = _turned(x)
                case Leading(other, ones):
                    out[other] = x[(None,) * ones]
                case Fuse(names, sizes):
                    out |= {n: part for n, part in zip(names, x.split(sizes), strict=True) if n is not None}
        return out

    def check(self, module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
        """Whether `tensors` under their names, which may be on the meta device, are all of `module` and nothing else.

        Raises:
            CheckpointError: names are missing or unknown, or a shape or kind differs; the first few are named.
        """
        _refuse(self._faults(module, tensors), where)

    def _faults(self, module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, list[str]]:
        """What `check` finds wrong, by its kind."""
        tensors = _Renamed(tensors, self)
        own = self._own(module.state_dict())
        places = {name: self.place(name) for name in own}
        wanted = [n for place in places.values() for n in _names(place)]
        unused = [_pattern(u) for u in self.unused]
        left = [n for n in tensors.keys() - set(wanted) if not any(u.fullmatch(n) for u in unused)]
        there = [(p, own[n]) for n, p in places.items() if all(part in tensors for part in _names(p))]
        odd = [(p, x) for p, x in there if not fits(_read(p, tensors), x)]
        return {
            "missing": [n for n in wanted if n not in tensors],
            "unknown": sorted(left),
            "of another shape or kind": [
                f"{', '.join(_names(p))} {describe(_read(p, tensors))} for {describe(x)}" for p, x in odd
            ],
        }

    @torch.no_grad()
    def fill(
        self,
        module: nn.Module,
        tensors: Mapping[str, Tensor],
        *,
        where: str,
        device: str | torch.device | None = None,
        done: Callable[[str, nn.Module], None] | None = None,
    ) -> None:
        """Fill `module` from tensors that `check` found right, one of its own at a time.

        Args:
            device: where a part of it gets its memory, when its turn comes; None is that it has it.
            done: is called with each part, and its name in the module, once its own tensors are filled.

        Raises:
            CheckpointError: a weight is NaN or infinite, or would be in the module's dtype.
        """
        tensors, known = _Renamed(tensors, self), self._own(module.state_dict()).keys()
        for path, part in module.named_modules():
            if device is not None:
                part.to_empty(device=device, recurse=False)
            self._write(path, part, known, tensors, where)
            if done is not None:
                done(path, part)

    def _write(
        self, path: str, part: nn.Module, known: Collection[str], tensors: Mapping[str, Tensor], where: str
    ) -> None:
        """Fill the own tensors of the part that has this name."""
        for own, ours in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if (name := f"{path}.{own}".lstrip(".")) not in known:
                continue
            place = self.place(name)
            for some_of, whole in _parts(ours, place):
                some_of.copy_(some_of.new_zeros(()) if whole is None else _read(whole, tensors))
            if not finite(ours):
                raise CheckpointError(f"{where}: {', '.join(_names(place))}: not finite in {ours.dtype}")

    def _own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of ours that checkpoints have."""
        fresh = [_pattern(name) for name in self.fresh]
        return {n: x for n, x in tensors.items() if not any(f.fullmatch(n) for f in fresh)}


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str = "checkpoint") -> None:
    """Fill every parameter and buffer of `module` from `tensors` of the same names, floats of any width into floats.

    Raises:
        CheckpointError: names are missing or unknown, a shape or kind differs, or a weight is NaN or infinite; the
            first few are named. The module is untouched then.
    """
    same = KeyMap({name: name for name in module.state_dict()})
    _refuse(same._faults(module, tensors) | {"not finite": [n for n, x in tensors.items() if not finite(x)]}, where)
    same.fill(module, tensors, where=where)


def _refuse(faults: Mapping[str, list[str]], where: str) -> None:
    if any(faults.values()):
        said = [f"{what}: {some(names)}" for what, names in faults.items() if names]
        raise CheckpointError(f"{where}: {'; '.join(said)}")


class _Renamed(Mapping[str, Tensor]):
    """Tensors by their names in the version that a map's table is of."""

    def __init__(self, tensors: Mapping[str, Tensor], keymap: KeyMap) -> None:
        self._tensors, self._names = tensors, {_known(name, keymap): name for name in tensors}
        if len(self._names) < len(tensors):
            twice = next(n for n in tensors if self._names[_known(n, keymap)] != n)
            raise CheckpointError(f"{twice} and {self._names[_known(twice, keymap)]} are the same tensor of ours")

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _known(name: str, keymap: KeyMap) -> str:
    for other, root in keymap.aliases.items():
        if name.startswith(other):
            name = root + name.removeprefix(other)
    *path, last = name.split(".")
    return ".".join((*path, keymap.endings.get(last, last)))


def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"(\{i\}|\*)", name)
    return re.compile("".join(_HOLES.get(part, re.escape(part)) for part in parts))


def _over(place: Place, change: Callable[[str], str]) -> Place:
    """The place with its names changed."""
    match place:
        case Fuse(names, sizes):
            return Fuse(tuple(n if n is None else change(n) for n in names), sizes)
        case Transposed(name):
            return Transposed(change(name))
        case Leading(name, ones):
            return Leading(change(name), ones)
        case _:
            return change(place)


def _fill(name: str, values: tuple[str, ...]) -> str:
    left = iter(values)
    return re.sub(r"\{i\}|\*", lambda _: next(left), name)


def _names(place: Place) -> tuple[str, ...]:
    match place:
        case Fuse(names):
            return tuple(n for n in names if n is not None)
        case Transposed(name) | Leading(name):
            return (name,)
        case _:
            return (place,)


def _read(place: Place, tensors: Mapping[str, Tensor]) -> Tensor:
    match place:
        case Fuse(names, sizes):
            held = {n: tensors[n] for n in names if n is not None}
            like = next(iter(held.values()))
            absent = (like.new_zeros(n, *like.shape[1:]) for n in sizes)
            return torch.cat([zero if n is None else held[n] for n, zero in zip(names, absent, strict=True)])
        case Transposed(name):
            return _turned(tensors[name])
        case Leading(name, ones):
            x = tensors[name]
            return x.view(x.shape[ones:]) if x.shape[:ones] == (1,) * ones else x
        case _:
            return tensors[place]


def _parts(x: Tensor, place: Place) -> Iterator[tuple[Tensor, Place | None]]:
    """What is read one after the other, so that no more than one of theirs is held."""
    if isinstance(place, Fuse):
        yield from zip(x.split(place.sizes), place.names, strict=True)
    else:
        yield x, place


def _turned(x: Tensor) -> Tensor:
    return x.mT if x.ndim > 1 else x
