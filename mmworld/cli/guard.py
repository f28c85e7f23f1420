"""What stands between a verb and the shell: exit codes, signals, closed pipes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmworld.cli.console import say
from mmworld.errors import MMWorldError, out_of_memory

INTERRUPTED, CLOSED_PIPE, RESOURCES, INTERNAL = 130, 141, 6, 1
GRACE = 0.7
"""Seconds after a signal by which a verb has left its native code; later, a thread ends the process for it."""
EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_last_acts: list[Callable[[], object]] = []


@contextmanager
def last_act(act: Callable[[], object]) -> Iterator[None]:
    """Within it, `act` is done before the process dies of a signal; it may run on another thread."""
    _last_acts.append(act)
    try:
        yield
    finally:
        _last_acts.remove(act)


def run(work: Callable[[], int], *, debug: bool = False) -> int:
    """The exit code of `work()`, every error told in one line on stderr, with a traceback if `debug`."""
    before = _listen()
    try:
        code = work()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else INTERNAL
    except BaseException as e:
        if debug:
            traceback.print_exc()
        return _explain(e)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> None:
    """End the process at once where threads or pipes could hold it up, in order otherwise."""
    if code in (INTERRUPTED, CLOSED_PIPE):
        os._exit(code)
    sys.exit(code)


def _explain(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, MMWorldError):
        say(str(error))
        return error.exit_code
    if out_of_memory(error):
        say(f"out of memory{_resident()} (a smaller input, a lower --fps or another --device may fit)")
        return RESOURCES
    if isinstance(error, OSError) and error.errno in EXHAUSTED | {errno.EACCES, errno.EPERM}:
        say(f"{error.filename or 'output'}: {error.strerror}")
        return RESOURCES
    say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
    return INTERNAL


def _resident() -> str:
    try:
        import resource
    except ImportError:
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f": {peak // 1024 if sys.platform == 'linux' else peak >> 20} MB resident at most"


def _listen() -> dict[int, Any]:
    """Turn signals into KeyboardInterrupt; returns the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    return {number: signal.signal(number, _interrupt) for number in numbers}


def _interrupt(number: int, frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, lambda *_: os._exit(INTERRUPTED))
    deadline = threading.Timer(GRACE, _end)
    deadline.daemon = True
    deadline.start()
    raise KeyboardInterrupt


def _end() -> None:
    for act in list(_last_acts):
        act()
    os._exit(INTERRUPTED)
