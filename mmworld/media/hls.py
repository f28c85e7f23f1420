"""HLS: FFmpeg reads the playlists and the segments, the gate fetches them; it opens neither socket nor file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Any

import av

from mmworld.media import probe
from mmworld.media.budget import Budget
from mmworld.media.fetch import fetch

PLAYLIST_BYTES, SEGMENT_BYTES = 1 << 20, 128 << 20
_OPTIONS = {
    "protocol_whitelist": "https",
    "format_whitelist": "hls,mpegts,mov,mp3,aac",
    "http_persistent": "0",  # else FFmpeg takes the connections for its own
    "http_multiple": "0",
}


class _Playlist(io.BytesIO):
    """FFmpeg takes the name of a file for what relative addresses in it are relative to."""

    name = ""


def open_hls(address: str, hosts: Sequence[str], budget: Budget, timeout: float) -> Any:
    """The av container of the playlist at an https address. Close it: PyAV does not survive that it is forgotten.

    Every address that it names is fetched under the rules of `fetch`, from `hosts` alone, at most `SEGMENT_BYTES` each.
    Of the streams at several qualities one is read.

    Raises:
        SourceError: see `fetch`.
        av.error.FFmpegError: it is no playlist.
    """
    limits = replace(budget, fetch_bytes=SEGMENT_BYTES)

    def get(url: str, flags: int = 0, options: object = None) -> IO[bytes]:
        return fetch(url, limits, hosts)

    with get(address) as file:
        playlist = _Playlist(file.read(PLAYLIST_BYTES))
    playlist.name = address
    options = _OPTIONS | {"max_pixels": str(budget.pixels)}
    opened = av.open(playlist, format="hls", options=options, io_open=get, timeout=(timeout, timeout))
    wanted = [probe.best(opened, kind) for kind in ("video", "audio")]
    for stream in opened.streams:
        if stream not in wanted:
            stream.discard = av.stream.Discard.all
    return opened
