"""What was told and perceived of a stream, on disk and bounded: found again by its time, its words and its meaning."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mmworld.errors import ResourceError, UsageError
from mmworld.stream.evidence import Evidence, Trace
from mmworld.types import Moment

Vector = NDArray[np.float32]
T = TypeVar("T")
MOST = 200_000
"""Moments kept; at one in five seconds, eleven days."""
MOST_BYTES = 1 << 29
"""Bytes of evidence kept; of two senses, 40 tokens of 192 numbers each in five seconds, a day."""
VERSION = 1
"""Of the tables; 0 had moments alone."""
WIDEST = 4096
NEAR = 1e-6
"""Seconds within which two times are one."""
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
create table if not exists evidence (id integer primary key autoincrement, start real, "end" real, source text,
    moment integer, bytes integer, meaning blob, unique (start, "end", source));
create table if not exists traces (evidence integer, modality text, width integer, time blob, x blob);
create index if not exists traces_of on traces (evidence);
create index if not exists evidence_of on evidence (moment);
create trigger if not exists forgotten after delete on moments begin
    update evidence set moment = null where moment = old.id;
end;
create trigger if not exists lost after delete on evidence begin
    delete from traces where evidence = old.id;
end;
"""
WITHIN = 'start >= ? and "end" <= ? and source = ?'


class Memory:
    """A bank of moments and of evidence in an SQLite file. Any thread may use it, and other processes may read it.

    Past `most` moments, or `most_bytes` of evidence, the oldest go. Of evidence that lies in the time of no moment
    nothing was told: it is found as a moment without a text.

    Args:
        path: of the file, made if it is not there; ":memory:" is none.
        embed: a text to its meaning, a vector of any length [E]; None finds by words and time alone.
        most: moments kept.
        most_bytes: of evidence.

    Raises:
        UsageError: the file is no such bank, or a later version's; here, or where it turns out to be damaged.
        ResourceError: it cannot be written.
    """

    def __init__(
        self,
        path: Path | str = ":memory:",
        embed: Callable[[str], Vector] | None = None,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._path, self._embed, self._most, self._most_bytes = str(path), embed, most, most_bytes
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            (made,) = self._db.execute("pragma user_version").fetchone()
            if made < VERSION:
                self._db.executescript(f"{TABLES} pragma user_version = {VERSION};")
        except sqlite3.DatabaseError as e:
            raise UsageError(f"{path}: no memory of a stream: {e}") from None
        if made > VERSION:
            raise UsageError(f"{path}: a memory of version {made}, known is {VERSION}", hint="a newer mmworld reads it")

    def __len__(self) -> int:
        return int(self._run("select count(*) from moments")[0][0])

    def add(self, moment: Moment) -> None:
        """Remember a moment; one that is there already is not remembered twice."""
        vector = None if self._embed is None else _bytes(self._embed(moment.text))
        row = (moment.start, moment.end, moment.text, moment.source)
        with self._transaction():
            there = 'select id from moments where start = ? and "end" = ? and text = ? and source = ?'
            if not self._execute(there, row):
                names = 'start, "end", text, source, vector'
                self._execute(f"insert into moments ({names}) values (?, ?, ?, ?, ?)", (*row, vector))
            ((i,),) = self._execute(there, row)
            self._execute("delete from moments where id <= (select max(id) from moments) - ?", (self._most,))
            self._execute(f"update evidence set moment = ? where {WITHIN}", (i, *_within(moment)))

    def keep(self, evidence: Evidence) -> None:
        """Keep what was perceived, in the place of what was kept of the same time."""
        meaning = None if evidence.meaning is None else _bytes(evidence.meaning)
        row = (evidence.start, evidence.end, evidence.source)
        with self._transaction():
            there = 'from evidence where start = ? and "end" = ? and source = ?'
            moment = next(iter(self._execute(f"select moment {there}", row)), (None,))[0]
            self._execute(f"delete {there}", row)
            names = 'start, "end", source, moment, bytes, meaning'
            kept = (*row, moment, evidence.nbytes, meaning)
            self._execute(f"insert into evidence ({names}) values (?, ?, ?, ?, ?, ?)", kept)
            ((i,),) = self._execute(f"select id {there}", row)
            for t in evidence.traces:
                data = (i, t.modality, t.x.shape[1], t.time.astype("<f4").tobytes(), t.x.astype("<f2").tobytes())
                self._execute("insert into traces values (?, ?, ?, ?, ?)", data)
            ((held,),) = self._execute("select sum(bytes) from evidence")  # others may write there, too
            while held > self._most_bytes:
                ((oldest, less),) = self._execute("select id, bytes from evidence order by id limit 1")
                self._execute("delete from evidence where id = ?", (oldest,))
                held -= less

    def evidence(self, moment: Moment, query: str = "") -> Evidence | None:
        """What is kept of a moment: of several pieces the one that fits a question best; None of one that has gone."""
        where = f"select id, meaning from evidence where {WITHIN} order by start limit 100"
        rows = self._run(where, _within(moment))
        wanted = self._meaning(query) if len(rows) > 1 else None
        best = [i for i, _ in self._nearest(rows, wanted, 1) or rows[:1]]
        of = 'start, "end", source, meaning, modality, width, x, time'
        joined = f"select {of} from evidence join traces on evidence = evidence.id where evidence.id = ?"
        held = [row for i in best for row in self._run(joined, (i,))]
        if not held:
            return None
        start, end, source, meaning = held[0][:4]
        try:
            vector = None if meaning is None else np.frombuffer(meaning, np.float16).astype(np.float32)
            return Evidence(start, end, tuple(Trace.of(*row[4:]) for row in held), source, vector)
        except (TypeError, ValueError) as e:
            raise UsageError(f"{self._path}: damaged at {start} s: {e}") from None

    def between(self, start: float, end: float, most: int = 100) -> list[Moment]:
        """The moments that overlap [start, end), in order of time."""
        where = 'start < ? and "end" > ?'
        told = f'select start, "end", text, source from moments where {where}'
        seen = f"select start, \"end\", '', source from evidence where moment is null and {where}"
        rows = self._run(f"{told} union all {seen} order by start limit ?", (end, start, end, start, most))
        return [Moment(*row) for row in rows]

    def find(self, query: str, most: int = 5) -> list[Moment]:
        """The moments that fit a question best, the best first: by their words, and by their meaning, the two lists
        fused by their ranks. Where nothing was told, the second stands for the first, too."""
        scores: dict[Moment, float] = defaultdict(float)
        for rank, moment in enumerate(self._by_words(query, 4 * most)):
            scores[moment] += 1 / (LATE + rank)
        for rank, moment in enumerate(self._by_meaning(query, 4 * most)):
            scores[moment] += (1 if moment.text else 2) / (LATE + rank)
        return sorted(scores, key=lambda m: -scores[m])[:most]

    def close(self) -> None:
        self._db.close()

    def _by_words(self, query: str, most: int) -> list[Moment]:
        words = content(query)
        if not words:
            return []
        asked = " OR ".join(f'"{w}"' for w in words)
        found = self._run("select rowid from words where words match ? order by rank limit ?", (asked, most))
        return self._moments([i for (i,) in found])

    def _by_meaning(self, query: str, most: int) -> list[Moment]:
        """By the meaning of what was told or of what was perceived, whichever is nearer."""
        if (wanted := self._meaning(query)) is None:
            return []
        near: dict[Moment, float] = defaultdict(lambda: -1.0)
        for i, cosine in self._nearest(self._vectors("id, vector from moments"), wanted, most):
            for moment in self._moments([i]):
                near[moment] = cosine
        of = "select start, \"end\", '', source, moment from evidence where id = ?"
        for i, cosine in self._nearest(self._vectors("id, meaning from evidence"), wanted, most):
            for *row, told in self._run(of, (i,)):
                for moment in self._moments([] if told is None else [told]) or [Moment(*row)]:
                    near[moment] = max(near[moment], cosine)
        return sorted(near, key=lambda m: -near[m])[:most]

    def _moments(self, ids: Sequence[int]) -> list[Moment]:
        """Those of them that have not gone."""
        rows = (self._run('select start, "end", text, source from moments where id = ?', (i,)) for i in ids)
        return [Moment(*row) for found in rows for row in found]

    def _vectors(self, of: str) -> list[tuple[int, bytes]]:
        return self._run(f"select {of}")

    def _meaning(self, query: str) -> Vector | None:
        return None if self._embed is None else _unit(self._embed(query))

    def _nearest(
        self, rows: Sequence[tuple[T, bytes | None]], wanted: Vector | None, most: int
    ) -> list[tuple[T, float]]:
        """The keys of the vectors that point most nearly where the wanted one does, and the cosines; of those that are
        as wide."""
        if wanted is None:
            return []
        rows = [(key, v) for key, v in rows if isinstance(v, bytes) and len(v) == 2 * len(wanted)]
        table = np.frombuffer(b"".join(v for _, v in rows if v), np.float16).reshape(-1, len(wanted))
        scores = table.astype(np.float32) @ wanted
        return [(rows[int(i)][0], float(scores[i])) for i in np.argsort(-scores, kind="stable")[:most]]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All that is written within it, or nothing."""
        with self._lock:
            self._execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.rollback()
                raise
            self._execute("commit")

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


def _within(moment: Moment) -> tuple[float, float, str]:
    """The values of WITHIN."""
    return moment.start - NEAR, moment.end + NEAR, moment.source


def _bytes(x: Vector) -> bytes:
    return _unit(x).astype(np.float16).tobytes()


def _unit(x: Vector) -> Vector:
    x = np.asarray(x, np.float32)
    if x.ndim != 1 or not 0 < len(x) <= WIDEST:
        raise ValueError(f"a meaning is a vector of at most {WIDEST} numbers, not {x.shape}")
    return x / max(float(np.linalg.norm(x)), 1e-12)
