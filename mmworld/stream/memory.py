"""What was told of a stream, on disk and bounded: found again by its time, by its words and by its meaning."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import ResourceError, UsageError
from mmworld.types import Moment

Vector = NDArray[np.float32]
MOST = 200_000
"""Moments kept; at one in five seconds, eleven days."""
WIDEST = 4096
LATE = 60
"""Of reciprocal rank fusion (Cormack et al. 2009, section 2)."""
_COMMON = (
    "a an and are at be been did do does for from had has have how in is it its of on or that the there this to was"
    " were what when where which who why with"
)
COMMON = frozenset(_COMMON.split())
"""English words that say nothing of what is asked about."""
TABLES = """
create table if not exists moments (id integer primary key autoincrement, start real, "end" real,
    text text, source text, vector blob);
create index if not exists moments_start on moments (start);
create virtual table if not exists words using fts5(text, content='moments', content_rowid='id', tokenize='porter');
create trigger if not exists said after insert on moments begin
    insert into words (rowid, text) values (new.id, new.text);
end;
create trigger if not exists gone after delete on moments begin
    insert into words (words, rowid, text) values ('delete', old.id, old.text);
end;
"""


class Memory:
    """A bank of moments in an SQLite file; past `most` of them the oldest go. Any thread may use it.

    Args:
        path: of the file, made if it is not there; ":memory:" is none.
        embed: a text to its meaning, a vector of any length [E]; None finds by words and time alone.
        most: moments kept.

    Raises:
        UsageError: the file is no such bank, or its vectors are of another width.
        ResourceError: it cannot be written.
    """

    def __init__(
        self, path: Path | str = ":memory:", embed: Callable[[str], Vector] | None = None, most: int = MOST
    ) -> None:
        self._path, self._embed, self._most = str(path), embed, most
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(TABLES)
        except sqlite3.DatabaseError as e:
            raise UsageError(f"{path}: no memory of a stream: {e}") from None

    def __len__(self) -> int:
        return int(self._run("select count(*) from moments")[0][0])

    def add(self, moment: Moment) -> None:
        """Remember a moment; one that is there already is not remembered twice."""
        vector = None if self._embed is None else _unit(self._embed(moment.text))
        row = (moment.start, moment.end, moment.text, moment.source)
        with self._lock, self._db:
            there = 'select 1 from moments where start = ? and "end" = ? and text = ? and source = ?'
            if self._execute(there, row):
                return
            blob = None if vector is None else vector.astype(np.float16).tobytes()
            names = 'start, "end", text, source, vector'
            self._execute(f"insert into moments ({names}) values (?, ?, ?, ?, ?)", (*row, blob))
            self._execute("delete from moments where id <= (select max(id) from moments) - ?", (self._most,))

    def between(self, start: float, end: float, most: int = 100) -> list[Moment]:
        """The moments that overlap [start, end), in order of time."""
        where = 'select start, "end", text, source from moments where start < ? and "end" > ? order by start limit ?'
        return [Moment(*row) for row in self._run(where, (end, start, most))]

    def find(self, query: str, most: int = 5) -> list[Moment]:
        """The moments that fit a question best, the best first: by their words, and by their meaning, the two lists
        fused by their ranks."""
        scores: dict[int, float] = defaultdict(float)
        for ranking in (self._by_words(query, 4 * most), self._by_meaning(query, 4 * most)):
            for rank, i in enumerate(ranking):
                scores[i] += 1 / (LATE + rank)
        best = sorted(scores, key=lambda i: -scores[i])[:most]
        rows = (self._run('select start, "end", text, source from moments where id = ?', (i,)) for i in best)
        return [Moment(*row[0]) for row in rows if row]

    def close(self) -> None:
        self._db.close()

    def _by_words(self, query: str, most: int) -> Sequence[int]:
        words = content(query)
        if not words:
            return []
        asked = " OR ".join(f'"{w}"' for w in words)
        found = self._run("select rowid from words where words match ? order by rank limit ?", (asked, most))
        return [i for (i,) in found]

    def _by_meaning(self, query: str, most: int) -> Sequence[int]:
        if self._embed is None:
            return []
        wanted = _unit(self._embed(query))
        rows = self._run("select id, vector from moments where length(vector) = ?", (2 * len(wanted),))
        if not rows:
            return []
        table = np.frombuffer(b"".join(v for _, v in rows), np.float16).reshape(len(rows), -1)
        scores = table.astype(np.float32) @ wanted
        return [rows[int(i)][0] for i in np.argsort(-scores, kind="stable")[:most]]

    def _run(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        with self._lock:
            return self._execute(sql, values)

    def _execute(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as e:
            raise ResourceError(f"{self._path}: {e}") from None
        except sqlite3.DatabaseError as e:
            raise UsageError(f"{self._path}: no memory of a stream: {e}") from None


def content(text: str) -> list[str]:
    """The words of a text that say what it is about."""
    return [w for w in re.findall(r"\w+", text.lower()) if w not in COMMON]


def _unit(x: Vector) -> Vector:
    x = np.asarray(x, np.float32)
    if x.ndim != 1 or not 0 < len(x) <= WIDEST:
        raise ValueError(f"a meaning is a vector of at most {WIDEST} numbers, not {x.shape}")
    return x / max(float(np.linalg.norm(x)), 1e-12)
