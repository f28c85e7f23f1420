"""WebDataset tars, read strictly: data members only, nothing unpickled, no pipes, no links."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mmworld.errors import LimitError, MediaError, SourceError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({"jpg", "jpeg", "png", "ogg", "wav", "flac", "mp3", "mp4", "npz", "npy", "txt", "json", "cls"})
MAX_MEMBER = 64 << 20
MAX_MEMBERS = 1_000_000

Sample = dict[str, bytes]
"""Suffix to contents; "__key__" holds the name that the members share."""


def samples(path: Path | str) -> Iterator[Sample]:
    """The samples of one tar, in order: neighbouring members with the same name up to the first dot.

    Members that are not plain data (links, devices, names that leave the folder, suffixes not in SUFFIXES, a suffix
    twice) are skipped; how many is logged. A tar cut short gives what came before the cut.

    Raises:
        SourceError: the path is a pipe, an address or has a variable in it, or is no file.
        MediaError: not a tar.
        LimitError: a member is larger than MAX_MEMBER, or there are more than MAX_MEMBERS.
    """
    path = _local(path)
    skipped = 0
    key, sample = "", Sample()
    for name, data in _members(path):
        parent, _, rest = name.rpartition("/")
        stem, _, suffix = rest.partition(".")
        suffix = suffix.lower()
        if data is None or suffix not in SUFFIXES or not stem or ".." in PurePosixPath(name).parts:
            skipped += 1
            continue
        here = f"{parent}/{stem}" if parent else stem
        if here != key and sample:
            yield {"__key__": key.encode(), **sample}
            sample = Sample()
        key = here
        if suffix in sample:
            skipped += 1
            continue
        sample[suffix] = data
    if sample:
        yield {"__key__": key.encode(), **sample}
    if skipped:
        log.warning("%s: %d members are not data and were skipped", path, skipped)


def _local(path: Path | str) -> Path:
    text = str(path)
    if text.startswith("pipe:") or "://" in text or text.split(":")[0] in ("gs", "s3", "hdfs") or "$" in text:
        raise SourceError("source", f"{text!r} is not a local file", hint="shards are read from files only")
    path = Path(path)
    if not path.is_file():
        raise SourceError("missing", f"{path}: no such file")
    return path


def _members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Name and contents of each member, None for one that is not a plain file with a relative name."""
    count = 0
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for member in tar:
                count += 1
                if member.size > MAX_MEMBER or count > MAX_MEMBERS:
                    limit = f"{MAX_MEMBER} bytes a member, {MAX_MEMBERS} members"
                    raise LimitError(
                        "size", f"{path}: member {member.name!r} of {member.size} bytes; limits are {limit}"
                    )
                if not member.isreg() or member.name.startswith("/"):
                    yield member.name, None
                    continue
                contents = tar.extractfile(member)
                yield member.name, contents.read() if contents else None
    except (tarfile.TarError, EOFError) as e:
        if not count:
            raise MediaError("format", f"{path}: not a tar: {e}") from None
        log.warning("%s: cut short after %d members: %s", path, count, e)
