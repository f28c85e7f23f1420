"""What a file is by its first bytes. Only formats on this list go on to a parser; the name alone decides nothing but
plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from mmworld.errors import MediaError

Kind = Literal["image", "video", "audio", "pointcloud", "sensor"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is read.

    Attributes:
        words: what it is called in messages.
        kind: what it holds by rule; "video" also stands for any container that av opens, until it is probed.
        reader: demuxers that may open it (a whitelist), Pillow's name for it, or the name of our own reader.
    """

    words: str
    kind: Kind
    reader: str


_MOV = Format("MP4/QuickTime", "video", "mov,mp4,m4a,3gp,3g2,mj2")
_RIFF = {
    b"AVI ": Format("AVI", "video", "avi"),
    b"WAVE": Format("WAV", "audio", "wav"),
    b"WEBP": Format("a WebP image", "image", "WEBP"),
}
ANIMATED_WEBP = Format("an animated WebP", "video", "WEBP")
_PNG = Format("a PNG image", "image", "PNG")
_APNG = Format("an animated PNG", "video", "apng")
_TS = Format("MPEG-TS", "video", "mpegts")
_MP3 = Format("MP3", "audio", "mp3")
_MAGIC: list[tuple[bytes, Format]] = [
    (b"\x1a\x45\xdf\xa3", Format("Matroska/WebM", "video", "matroska,webm")),
    (b"OggS", Format("Ogg", "video", "ogg")),
    (b"fLaC", Format("FLAC", "audio", "flac")),
    (b"ID3", Format("MP3", "audio", "mp3,aac,flac")),
    (b"riff\x2e\x91\xcf\x11", Format("Wave64", "audio", "w64")),
    (b"FORM", Format("AIFF", "audio", "aiff")),
    (b".snd", Format("AU", "audio", "au")),
    (b"caff", Format("CAF", "audio", "caf")),
    (b"wvpk", Format("WavPack", "audio", "wv")),
    (b"#!AMR", Format("AMR", "audio", "amr")),
    (b"FLV\x01", Format("FLV", "video", "flv,live_flv")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Format("ASF/WMV", "video", "asf,asf_o")),
    (b"\x00\x00\x01\xba", Format("MPEG-PS", "video", "mpeg")),
    (b"\x00\x00\x01\xb3", Format("MPEG video", "video", "mpegvideo")),
    (b"DKIF", Format("IVF", "video", "ivf")),
    (b"nut/multimedia container", Format("NUT", "video", "nut")),
    (b"GIF87a", Format("GIF", "video", "gif")),
    (b"GIF89a", Format("GIF", "video", "gif")),
    (b"\xff\xd8\xff", Format("a JPEG image", "image", "JPEG,MPO")),
    (b"II*\x00", Format("a TIFF image", "image", "TIFF")),
    (b"MM\x00*", Format("a TIFF image", "image", "TIFF")),
    (b"ply", Format("PLY", "pointcloud", "ply")),
    (b"# .PCD", Format("PCD", "pointcloud", "pcd")),
    (b"VERSION .", Format("PCD", "pointcloud", "pcd")),
    (b"\x93NUMPY", Format("NPY", "pointcloud", "npy")),
]
_BY_NAME = {  # plain text and headless records have no magic; each is held to its own strict reader
    ".xyz": Format("XYZ points", "pointcloud", "xyz"),
    **dict.fromkeys((".xyzn", ".xyzrgb", ".xyzi", ".pts"), Format("XYZ points", "pointcloud", "xyz")),
    ".off": Format("OFF", "pointcloud", "off"),
    ".obj": Format("OBJ", "pointcloud", "obj"),
    ".pcd": Format("PCD", "pointcloud", "pcd"),
    ".bin": Format("KITTI points", "pointcloud", "bin"),
    ".npz": Format("NPZ", "pointcloud", "npz"),
    ".csv": Format("CSV", "sensor", "csv"),
    ".tsv": Format("CSV", "sensor", "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), Format("JSON lines", "sensor", "jsonl")),
}
_REFUSED: list[tuple[bytes, str]] = [
    (b"#EXTM3U", "an HLS playlist"),
    (b"ffconcat", "an ffconcat playlist"),
    (b"[playlist]", "a playlist"),
    (b"v=0", "an SDP session"),
    (b"rtsp", "an RTSP address"),
    (b"<", "XML or HTML"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "an EPS document"),
    (b"SIMPLE  =", "a FITS image"),
    (b"8BPS", "a Photoshop image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\x00\x01\x00\x00\x00", "a font"),
    (b"OTTO", "a font"),
    (b"ttcf", "a font"),
    (b"wOF", "a font"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
]
_CONVERTED = {b"glTF": "a glTF scene", b"LASF": "a LAS cloud", b"Kaydara": "an FBX scene", b"ASTM-E57": "an E57 cloud"}
_PICTURE_NAMES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_STREAM_NAMES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"),
    *(".mp3", ".wav", ".flac", ".ogg", ".opus", ".m4a", ".aac"),
}


def sniff(head: bytes, name: str) -> Format:
    """The format of a file that starts with `head` (64 KiB, or the whole file).

    Raises:
        MediaError: "empty"; "format" (not on the list, with what it looks like); "mismatch" (a picture named as a
            video …).
    """
    if not head:
        raise MediaError("empty", f"{name}: is empty (0 bytes)")
    suffix = PurePath(name).suffix.lower()
    text = head[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    for magic, words in _REFUSED:
        if head.startswith(magic) or text[: len(magic)].lower() == magic.lower():
            raise MediaError("format", f"{name}: format not allowed, it looks like {words}")
    for magic, words in _CONVERTED.items():
        if head.startswith(magic):
            raise MediaError("format", f"{name}: {words} is not read", hint="convert it to PLY")
    found = _known(head) or _BY_NAME.get(suffix) or (_MP3 if _mpeg_audio(head, anywhere=suffix == ".mp3") else None)
    if found is None and not suffix and text[:1] == b"{":
        found = _BY_NAME[".jsonl"]
    if found is None:
        raise MediaError("format", f"{name}: format not allowed, it looks like {_looks_like(head)}")
    still = found.kind == "image"
    if suffix in (_STREAM_NAMES if still else _PICTURE_NAMES) and found is not _APNG and found.words != "GIF":
        raise MediaError("mismatch", f"{name}: is named {suffix} but looks like {found.words}", hint="rename it")
    return found


def _known(head: bytes) -> Format | None:
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return Format("an AVIF image", "image", "AVIF")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return _MOV
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        animated = head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2
        return ANIMATED_WEBP if animated else _RIFF.get(head[8:12])
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _APNG if b"acTL" in head[: head.find(b"IDAT")] else _PNG
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return Format("a BMP image", "image", "BMP")
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return Format("a PNM image", "image", "PPM")
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if _transport_stream(head):
        return _TS
    if head[:1] == b"\xff" and _mpeg_audio(head):
        return _MP3
    if head[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return Format("AAC", "audio", "aac")
    return None


def _transport_stream(head: bytes) -> bool:
    """A sync byte every 188 bytes (192 with timestamps, 204 with error correction), from any offset: a cut stream
    starts anywhere.
    """
    for size in (188, 192, 204):
        for offset in range(size):
            marks = head[offset : offset + 5 * size : size]
            if len(marks) >= 3 and not marks.strip(b"\x47"):
                return True
    return False


_MPEG_AUDIO = re.compile(rb"\xff[\xe2-\xff][\x10-\xef]")
_BITRATES = {  # kbit/s by (version 1?, layer)
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _mpeg_audio(head: bytes, anywhere: bool = False) -> bool:
    """Three MPEG audio frames in a row, at the start or (a damaged file) anywhere."""
    starts = (m.start() for m in _MPEG_AUDIO.finditer(head)) if anywhere else (0,)
    for start in starts:
        position = start
        for _ in range(3):
            size = _frame_size(head[position : position + 4])
            if not size:
                break
            position += size
        else:
            return True
    return False


def _frame_size(header: bytes) -> int:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = (header[1] >> 3) & 3, 4 - ((header[1] >> 1) & 3)
    rates = _BITRATES.get((version == 3, layer))
    bitrate, rate = (header[2] >> 4) - 1, (header[2] >> 2) & 3
    if version == 1 or rates is None or not 0 <= bitrate < 14 or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    scale = 72_000 if layer == 3 and version != 3 else 144_000
    return scale * rates[bitrate] // hertz + ((header[2] >> 1) & 1)


def _looks_like(head: bytes) -> str:
    if head[:2] == b"PK":
        return "a ZIP archive"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle"
    sample = head[:4096]
    if b"\0" not in sample and sum(c < 32 and c not in b"\t\n\r\f" for c in sample) == 0:
        return "plain text"
    return "unknown binary data"
