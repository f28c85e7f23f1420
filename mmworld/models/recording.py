"""What is watched on one timeline, as a file for the rerun viewer, written as it goes."""

from __future__ import annotations

import itertools
import os
import threading
import warnings
from pathlib import Path
from typing import Any

from mmworld.errors import ResourceError, UsageError
from mmworld.models.events import Event
from mmworld.models.scribe import Scribe
from mmworld.stream.intake import size
from mmworld.types import Chunk

EVERY = 2.0
"""Seconds between two writes: what a process that is killed has not written."""
ROOM = 64 << 20
"""Bytes of chunks that may wait to be written."""
PATIENCE = 60.0
"""Seconds for which the last write is waited for."""


class Recording:
    """Writes frames, wave, clouds, readings and what is told of them to an .rrd file, in a thread of its own.

        with closing(Recording("hall.rrd")) as recording:
            with mmworld.watch("hall.mp4", tap=recording.tap) as live:
                for event in live:
                    recording.add(event)

    How much of an hour is written is bounded; see `Scribe`.

    Args:
        path: must not be there yet.
        title: under which the viewer lists it.
        identity: of the recording that is gone on with; the viewer opens files with the same one as one.
        drop: chunks that there is no time to write are left out and counted, as suits a live source; else who brings
            them waits.

    Attributes:
        left_out: how many chunks were.

    Raises:
        UsageError: rerun is not installed, or the file is there.
        ResourceError: the file cannot be written; by `tap`, `add` and `close`, too.
    """

    def __init__(self, path: Path | str, *, title: str = "", identity: str | None = None, drop: bool = False) -> None:
        rr = _rerun()
        self._path, self._drop, self.left_out = Path(path), drop, 0
        # What is sent is what `_flush` sends. An index at the end of the file would be held in memory, and grow.
        batches = rr.ChunkBatcherConfig(flush_tick=1e6)
        self._stream = rr.RecordingStream("mmworld", recording_id=identity, batcher_config=batches)
        self._create()
        self._stream.save(self._path, write_footer=False)
        self._stream.set_log_tick_enabled(False)  # the sources' time is the one that there is
        self._stream.set_log_time_enabled(False)
        self._stream.send_recording_name(title or self._path.stem)
        self._scribe = Scribe(rr, self._stream)
        self._waiting: list[Chunk | Event] = []
        self._nbytes = self._written = 0
        self._open = True
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name="record")
        self._thread.start()

    @property
    def name(self) -> str:
        """Of the file."""
        return self._path.name

    @property
    def warnings(self) -> list[str]:
        """What people should know of it."""
        return [f"{self.left_out} chunks left out, as they could not be written in time"] if self.left_out else []

    def tap(self, chunk: Chunk) -> None:
        """Take in what is perceived."""
        with self._changed:
            while self._nbytes > ROOM and self._error is None and self._open:
                if self._drop:
                    self.left_out += 1
                    return
                self._changed.wait(EVERY)
            self._nbytes += size(chunk)
        self.add(chunk)

    def add(self, event: Chunk | Event) -> None:
        """Take in what is told."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._waiting.append(event)
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, and end the file."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise ResourceError(f"cannot write {self._path}: its disk has not answered for {PATIENCE:.0f} s")
        if self._error is not None:
            raise self._error

    def _create(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(exist_ok=False)  # rerun would write over it, and does not say why it cannot
        except OSError as e:
            if self._path.exists():
                raise UsageError(f"{self._path} exists", hint="another name") from None
            raise ResourceError(f"cannot write {self._path}: {e.strerror}") from None

    def _run(self) -> None:
        """Write what has come, every EVERY seconds and where much waits, until it is closed."""
        more = True
        try:
            while more:
                with self._changed:
                    self._changed.wait_for(lambda: not self._open or self._nbytes > ROOM // 2, EVERY)
                    more, items, self._waiting = self._open, self._waiting, []
                self._write(items, end=not more)
                with self._changed:
                    self._nbytes -= sum(map(_weight, items))
                    self._changed.notify_all()
        except Exception as e:
            with self._changed:
                self._error = self._failed() if isinstance(e, RuntimeError | TimeoutError) else e
                self._changed.notify_all()
        finally:
            self._stream.disconnect()

    def _write(self, items: list[Chunk | Event], *, end: bool) -> None:
        for item in items:
            if isinstance(item, Chunk):
                self._scribe.chunk(item)
            else:
                self._scribe.event(item)
        if end:
            self._scribe.end()
        self._stream.flush(timeout_sec=PATIENCE / 2)
        self._written = self._path.stat().st_size

    def _failed(self) -> ResourceError:
        """Why the file does not grow, which rerun does not say. What is cut short goes: it would hide all the rest."""
        _rerun().unregister_shutdown()  # which would wait for the file for good
        reason = "rerun has given up"
        try:
            with self._path.open("ab") as file:
                file.write(bytes(1 << 16))
        except OSError as e:
            reason = e.strerror or reason
        os.truncate(self._path, self._written)
        return ResourceError(f"cannot write {self._path}: {reason}")


def beside(path: Path) -> tuple[Path, str | None]:
    """Where what goes on with a recording is written, as it cannot be written into it: "hall-2.rrd" and so on beside
    "hall.rrd"; and the identity of that. `path` itself and None if there is none."""
    if not path.exists():
        return path, None
    names = (path.with_stem(f"{path.stem}-{i}") for i in itertools.count(2))
    return next(p for p in names if not p.exists()), identity(path)


def identity(path: Path) -> str:
    """By which the viewer knows the recording in a file.

    Raises:
        UsageError: the file holds none.
    """
    _rerun()
    from rerun.chunk import RrdReader

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there is no index at the end
            return RrdReader(path).recordings()[0].recording_id
    except (RuntimeError, IndexError):
        raise UsageError(f"{path} is no recording that can be gone on with", hint="another name") from None


def _weight(item: Chunk | Event) -> int:
    return size(item) if isinstance(item, Chunk) else 0


def _rerun() -> Any:
    """The package, which is to say nothing on stderr by itself."""
    before = os.environ.get("RUST_LOG")
    os.environ["RUST_LOG"] = before or "off"
    try:
        import rerun
    except ImportError:
        raise UsageError("recordings need rerun-sdk", hint="pip install 'mmworld[rerun]'") from None
    finally:
        os.environ.pop("RUST_LOG")
        if before is not None:
            os.environ["RUST_LOG"] = before
    return rerun
