"""Sources that must not be followed, rows S1 to S13 of the contract (downloads: test_fetch.py)."""

from __future__ import annotations

import base64
import io
import os
import socket
import time
from pathlib import Path

import pytest
from clips import clip, number, sound_file, tone

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.media.budget import Budget
from mmworld.media.gate import open_media
from mmworld.media.sniff import sniff
from mmworld.media.source import printable
from mmworld.media.video import frames


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def connect(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret.ts"
    path.write_bytes(clip(5, container="mpegts"))
    return path


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{0}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile {0}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD><Period><BaseURL>file://{0}</BaseURL></Period></MPD>',
    "rtsp": "rtsp://127.0.0.1/x\n",
    "pls": "[playlist]\nFile1=file://{0}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ts", "list"])
@pytest.mark.parametrize("prefix", ["", "\ufeff", "\n "])
def test_s1_s2_s4_s6_playlists_are_refused_under_any_name(tmp_path, secret, kind, name, prefix):
    path = tmp_path / name
    path.write_text(prefix + PLAYLISTS[kind].format(secret))
    with pytest.raises(MediaError, match="format not allowed"):
        open_media(path)


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_s5_playlists_in_bytes_and_file_objects(secret, kind):
    data = PLAYLISTS[kind].format(secret).encode()
    for source in (data, io.BytesIO(data), f"data:video/mp4,{data.decode()}"):
        with pytest.raises(MediaError, match="format not allowed"):
            open_media(source)


@pytest.mark.parametrize("prefix", ["concat:", "subfile:,start,0,end,0,,:", "async:", "crypto:", "file:", "cache:"])
def test_s3_protocols_are_names_of_files_that_are_not_there(secret, prefix):
    with pytest.raises(SourceError, match="no such file"):
        open_media(f"{prefix}{secret}")


@pytest.mark.parametrize(
    "address",
    ["http://example.com/a.mp4", "HTTP://127.0.0.1/", "rtsp://h/x", "ftp://h/x", "gopher://h", "file:///etc/passwd"],
)
def test_s7_other_schemes_are_refused_without_a_request(address):
    for allow in (False, True):
        with pytest.raises(SourceError) as caught:
            open_media(address, allow_url=allow)
        assert caught.value.exit_code == 4
    with pytest.raises(SourceError, match="--allow-url"):
        open_media("https://example.com/a.mp4?token=secret")


def test_s7_a_query_is_not_shown():
    with pytest.raises(SourceError) as caught:
        open_media("https://example.com/a.mp4?token=secret")
    assert "secret" not in str(caught.value)


def test_s11_data_addresses():
    data = clip(3)
    encoded = base64.b64encode(data).decode()
    media = open_media(f"data:text/plain;base64,{encoded}")  # what it claims to be does not count
    assert [number(f.data) for f in frames(media)] == [0, 1, 2]
    for bad in ("data:video/mp4;base64,%%%%", "data:video/mp4;base64,abc", "data:nothing"):
        with pytest.raises(SourceError):
            open_media(bad)
    with pytest.raises(LimitError, match="limit"):
        open_media("data:;base64," + "A" * 5000, budget=Budget(data_bytes=1000))
    with pytest.raises(LimitError, match="limit"):
        open_media("data:,a" + "A" * 1500, budget=Budget(data_bytes=1000))


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/null", "/proc/self/environ", "/", "/nowhere/x.mp4", "a\0b", "x" * 5000]
)
def test_s12_what_is_no_file(path):
    start = time.monotonic()
    with pytest.raises(MediaError) as caught:
        open_media(path)
    assert time.monotonic() - start < 1
    assert caught.value.exit_code == 4


def test_s12_a_pipe_in_the_file_system_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    with pytest.raises(SourceError, match="not a file"):
        open_media(tmp_path / "fifo.mp4")


def test_s12_nothing_outside_the_allowed_folder(tmp_path, secret):
    root = tmp_path / "allowed"
    root.mkdir()
    (root / "in.ts").write_bytes(secret.read_bytes())
    (root / "link.ts").symlink_to(secret)
    assert open_media(root / "in.ts", root=root).kind == "video"
    for path in (secret, root / ".." / "secret.ts", root / "link.ts"):
        with pytest.raises(SourceError, match="outside"):
            open_media(path, root=root)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceError):
        open_media(tmp_path / "loop")


def test_a_file_that_is_swapped_after_the_check_is_not_read(tmp_path, secret):
    path = tmp_path / "a.ts"
    path.write_bytes(secret.read_bytes())
    media = open_media(path)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(SourceError, match="replaced"):
        list(frames(media))


@pytest.mark.parametrize(
    "name",
    ["line\nbreak.ts", "-rf.ts", "%s%n%03d.ts", b"\xff\xfe.ts", "é" * 100 + ".ts", "😀.ts", "concat:a|b.ts", " .ts"],
)
def test_s13_odd_names_work_and_print_on_one_line(tmp_path, secret, name):
    path = os.path.join(os.fsencode(tmp_path), name if isinstance(name, bytes) else os.fsencode(name))
    with open(path, "wb") as file:
        file.write(secret.read_bytes())
    media = open_media(os.fsdecode(path))
    assert len(list(frames(media))) == 5
    assert media.name.isprintable()
    media.name.encode()


def test_s13_names_longer_than_the_system_allows():
    with pytest.raises(SourceError):
        open_media("y" * 300 + ".mp4")
    assert len(printable("z" * 1000)) == 200


def test_file_objects_are_left_open_and_where_they_were_is_not_asked():
    file = io.BytesIO(clip(4))
    file.seek(100)
    media = open_media(file)
    for _ in range(2):
        assert [number(f.data) for f in frames(media)] == [0, 1, 2, 3]
    assert not file.closed
    with pytest.raises(SourceError, match="binary"):
        open_media(io.StringIO("text"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe EPSF", "PostScript"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\1\0\0\0\x0a", "font"),
        (b"wOF2", "font"),
        (b"PK\3\4", "ZIP"),
        (b"\x80\x04\x95", "pickle"),
        (b"\x7fELF", "program"),
        (b"<svg xmlns='x'>", "XML"),
        (b"\x1f\x8b\x08", "gzip"),
        (bytes(100), "unknown binary data"),
    ],
)
def test_the_error_says_what_it_looks_like(head, words):
    with pytest.raises(MediaError, match=words) as caught:
        sniff(head, "x.png")
    assert caught.value.code == "format"


@pytest.mark.parametrize(
    ("container", "codec", "words"),
    [
        ("wav", "pcm_s16le", "WAV"),
        ("flac", "flac", "FLAC"),
        ("ogg", "libopus", "Ogg"),
        ("mp3", "libmp3lame", "MP3"),
        ("adts", "aac", "AAC"),
        ("aiff", "pcm_s16be", "AIFF"),
        ("au", "pcm_s16be", "AU"),
        ("caf", "pcm_s16le", "CAF"),
        ("w64", "pcm_s16le", "Wave64"),
        ("wv", "wavpack", "WavPack"),
        ("matroska", "pcm_s16le", "Matroska"),
    ],
)
def test_every_listed_sound_format_is_recognised(container, codec, words):
    rate = 48000
    media = open_media(sound_file(tone(0.5, rate), rate, codec=codec, container=container))
    assert words in media.format.words
    assert media.kind == "audio"


@pytest.mark.parametrize(("head", "words"), [(b"glTF\2\0\0\0", "glTF"), (b"LASF\0\0", "LAS"), (b"Kaydara FBX", "FBX")])
def test_p12_scenes_and_scans_in_other_formats_name_the_cure(head: bytes, words: str) -> None:
    with pytest.raises(MediaError, match=rf"{words}.*PLY"):
        open_media(head * 20)
