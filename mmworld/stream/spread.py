"""So many things of a stream, evenly spread over its time, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Spread(Generic[T]):
    """Values met at least `distance` seconds apart; past `limit`, every other one goes and the distance doubles."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.times: list[float] = []
        self.values: list[T] = []
        self._distance = 0.0

    def add(self, time: float, make: Callable[[], T]) -> None:
        """Keep make() as the value at `time`, if it is not too near the one before."""
        if self.times and time < self.times[-1] + self._distance:
            return
        self.times.append(time)
        self.values.append(make())
        if len(self.times) > self.limit:
            self._distance = 2 * (time - self.times[0]) / self.limit
            del self.times[1::2], self.values[1::2]

    @property
    def nbytes(self) -> int:
        """Bytes of the values, which are tensors."""
        return sum(x.nbytes for x in self.values)  # type: ignore[attr-defined]

    def tensors(self) -> dict[str, Any]:
        """All of it by name, to be saved: the values, which are tensors, and what is plain."""
        plain = {"limit": self.limit, "times": list(self.times), "distance": self._distance}
        return {**plain, **{f"values.{i}": x for i, x in enumerate(self.values)}}

    @classmethod
    def from_tensors(cls, saved: Mapping[str, Any]) -> Spread[T]:
        """What `tensors` gave."""
        self = cls(saved["limit"])
        self.times, self._distance = list(saved["times"]), saved["distance"]
        self.values = [saved[f"values.{i}"] for i in range(len(self.times))]
        return self

    def even(self, n: int, start: float, end: float) -> list[T]:
        """At most n values: those nearest to the middles of n equal parts of [start, end), in order."""
        if len(self.values) <= n:
            return list(self.values)
        middles = [start + (i + 0.5) * (end - start) / n for i in range(n)]
        nearest = [min(range(len(self.times)), key=lambda k: abs(self.times[k] - m)) for m in middles]
        return [self.values[k] for k in dict.fromkeys(nearest)]
