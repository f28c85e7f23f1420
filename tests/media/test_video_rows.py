"""Videos that go wrong, rows V1 to V26 of the contract: each test makes its input itself."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import box, clip, number, numbered, rotated, sound_file, tone

from mmworld.errors import LimitError, MediaError, SourceError
from mmworld.media.audio import samples
from mmworld.media.budget import Budget
from mmworld.media.gate import Media, open_media
from mmworld.media.pictures import Frame, Pictures
from mmworld.media.read import read
from mmworld.media.sound import Sound
from mmworld.media.video import frames, frames_at, uniform


class Pipe(io.RawIOBase):
    """Bytes that cannot be sought, as from stdin; counts what was taken."""

    def __init__(self, data: bytes) -> None:
        self._data, self.taken = data, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self.taken + size
        part = self._data[self.taken : end]
        self.taken += len(part)
        return part


def numbers(media: Media, **options: float) -> list[int]:
    return [number(frame.data) for frame in frames(media, **options)]  # type: ignore[arg-type]


def times(media: Media, **options: float) -> list[float]:
    return [frame.time for frame in frames(media, **options)]  # type: ignore[arg-type]


def refused(data: bytes | Pipe, code: str, *words: str, budget: Budget | None = None) -> None:
    with pytest.raises(MediaError) as caught:
        list(frames(open_media(data, budget=budget)))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.exit_code == 4
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_v1_index_missing():
    refused(clip(30)[:1500], "truncated", "incomplete mp4, index missing")


def test_v2_half_a_file_gives_the_frames_to_the_cut():
    whole = clip(60, muxing={"movflags": "faststart"}, options={"g": "10", "bf": "0"})
    media = open_media(whole[: len(whole) * 3 // 4])
    found = numbers(media)
    assert 10 <= len(found) < 60
    assert found == list(range(len(found)))
    assert "truncated" in media.warnings


@pytest.mark.parametrize(("data", "code", "words"), [(b"", "empty", "empty"), (b"hello " * 99, "format", "plain text")])
def test_v3_nothing_and_text(tmp_path, data, code, words):
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=words) as caught:
        open_media(path)
    assert caught.value.code == code


def test_v3_a_picture_named_as_a_video(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(1, codec="png", container="image2pipe", pix_fmt="rgb24"))
    with pytest.raises(MediaError, match="looks like a PNG image"):
        open_media(path)


def test_v4_sound_only():
    data = sound_file(tone(1.0), codec="aac", container="mp4")
    refused(data, "no video", "no video; has audio", "try transcribe")


def test_v5_no_frame_and_one_frame():
    refused(clip(0, container="matroska"), "empty")
    media = open_media(clip(1))
    assert numbers(media) == [0]
    assert [f.time for f in frames(media, fps=10)] == [0.0]


def test_v6_variable_rate_is_sampled_by_time():
    pts = [0, 1000, 5000, 5500, 9000, 20000, 21000, 22000, 30000, 31000]
    media = open_media(clip(10, pts=pts))
    shown = np.array(pts) / 30_000
    for frame in frames(media, fps=20):
        assert number(frame.data) == np.searchsorted(shown, frame.time + 1e-6, side="right") - 1


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_v7_upright_in_every_backend(tmp_path, turns, mirror):
    stored = numbered(5, 96, 64)
    path = tmp_path / "turned.mp4"
    path.write_bytes(rotated(clip(3, width=96, height=64, pictures=[stored] * 3), turns, mirror))
    media = open_media(path)
    upright = np.rot90(stored[:, ::-1] if mirror else stored, -turns).transpose(2, 0, 1).astype(float)
    [picture] = frames_at(media, [0.0])
    assert picture.data.shape == upright.shape
    assert np.abs(picture.data.numpy() - upright).mean() < 8
    if not mirror:  # decord knows turns only
        pytest.importorskip("decord")
        [other] = frames_at(media, [0.0], backend="decord")
        assert np.abs(other.data.numpy() - picture.data.numpy().astype(float)).mean() < 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p10le"])
@pytest.mark.parametrize("color_range", [1, 2])
def test_v8_depth_subsampling_and_range_change_no_colour(pix_fmt, color_range):
    levels = [np.full((64, 64, 3), (r, g, b), np.uint8) for r, g, b in [(0, 0, 0), (255, 255, 255), (200, 60, 20)]]
    data = clip(3, pictures=levels, pix_fmt=pix_fmt, color_range=color_range, colorspace=1, options={"crf": "1"})
    for frame, level in zip(frames(open_media(data)), levels, strict=True):
        assert np.abs(frame.data.numpy().astype(int) - level.transpose(2, 0, 1)).max() <= 4


def test_v8_hdr_is_recorded():
    options = {"x264-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"}
    media = open_media(clip(3, pix_fmt="yuv420p10le", options=options))
    assert numbers(media) == [0, 1, 2]
    assert "hdr without tone mapping" in media.warnings


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt"),
    [("prores_ks", "mov", "yuva444p10le"), ("libvpx-vp9", "webm", "yuva420p"), ("ffv1", "matroska", "bgra")],
)
@pytest.mark.parametrize("background", [0, 255])
def test_v9_alpha_lies_on_the_background(codec, container, pix_fmt, background):
    picture = np.full((64, 64, 4), 200, np.uint8)
    picture[:, :32, 3] = 0
    picture[:, 32:, 3] = 255
    data = clip(3, codec=codec, container=container, pix_fmt=pix_fmt, pictures=[picture] * 3, picture_format="rgba")
    for frame in read(open_media(data), video=Pictures(background=background)):
        assert abs(int(frame.data[0, 32, 4]) - background) < 12
        assert abs(int(frame.data[0, 32, 60]) - 200) < 12


@pytest.mark.parametrize(("width", "height"), [(177, 99), (1, 1), (1, 4096), (4096, 1), (3, 2)])
@pytest.mark.parametrize("size", [None, 32])
def test_v10_odd_sizes(width, height, size):
    data = clip(2, codec="rawvideo", container="avi", pix_fmt="bgr24", width=width, height=height)
    found = list(frames(open_media(data), size=size))
    assert [f.data.shape for f in found] == [(3, size or height, size or width)] * 2


def gif(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"


def test_v11_a_gif_that_declares_65535_squared():
    refused(gif(65535, 65535), "pixels", "65535x65535")
    assert len(list(frames(open_media(gif(8, 8))))) == 1


def test_v12_pixels_beyond_the_budget():
    refused(clip(2, width=640, height=480), "pixels", "640x480", "100000", budget=Budget(pixels=100_000))


def test_v12_pixels_grow_mid_stream():
    small, large = clip(5, container="mpegts"), clip(5, width=640, height=480, container="mpegts")
    media = open_media(small + large, budget=Budget(pixels=100_000))
    assert len(numbers(media)) < 7
    assert any("corrupt" in w for w in media.warnings)


def test_v13_one_geometry_when_the_size_changes():
    media = open_media(clip(5, container="mpegts") + clip(5, width=128, height=128, container="mpegts"))
    found = list(frames(media))
    assert {f.data.shape for f in found} == {(3, 64, 64)}
    assert [number(f.data) for f in found] == [*range(5), *range(5)]
    assert "size change" in media.warnings


def test_v14_joined_streams_make_one_monotone_clock():
    part = clip(30, container="mpegts", sound=tone(1.0), sound_codec="mp2")
    media = open_media(part * 3)
    found = list(read(media, video=Pictures(), audio=Sound()))
    stamps = [f.time for f in found if isinstance(f, Frame)]
    assert len(stamps) == 90
    assert np.allclose(np.diff(stamps), 1 / 30, atol=0.06)
    assert (np.diff(stamps) > 0).all()
    assert "discontinuity: 2" in media.warnings


def test_v15_wrapping_timestamps():
    start = 2**33 / 90_000 - 1.0
    pts = [round((start + i / 30) * 30_000) for i in range(60)]
    media = open_media(clip(60, container="mpegts", pts=pts))
    assert np.allclose(times(media), np.arange(60) / 30, atol=1e-4)
    assert media.warnings == []


@pytest.mark.parametrize(("container", "shift"), [("mpegts", 300), ("mp4", 300), ("matroska", 300), ("matroska", -3)])
def test_v16_the_clock_starts_at_the_container(container, shift):
    media = open_media(clip(30, container=container, pts=[(i + shift) * 1000 for i in range(30)]))
    assert np.allclose(times(media), np.arange(30) / 30, atol=1.1e-3)


def test_v16_sound_keeps_its_distance():
    media = open_media(clip(30, sound=tone(1.0), sound_start=0.5, container="matroska", sound_codec="flac"))
    first = next(samples(media))
    assert first.time == pytest.approx(0.5, abs=2e-3)
    assert times(media)[0] == 0.0


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_v17_the_last_frame_is_delivered(codec):
    assert numbers(open_media(clip(50, codec=codec, container="mpegts")))[-1] == 49


def test_v18_index_at_the_end_of_a_pipe():
    data = clip(30)
    media = open_media(Pipe(data))  # type: ignore[arg-type]
    assert numbers(media) == list(range(30))
    refused(Pipe(data), "faststart", "faststart", budget=Budget(spool_bytes=1000))


@pytest.mark.parametrize(
    ("container", "muxing"),
    [
        ("mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("mp4", {"movflags": "faststart"}),
        ("matroska", {}),
        ("mpegts", {}),
    ],
)
def test_v18_a_pipe_is_read_as_it_comes(container, muxing):
    data = clip(240, container=container, muxing=muxing, options={"g": "10"}, width=128, height=128)
    pipe = Pipe(data * (1 if container != "mpegts" else 3))
    media = open_media(pipe)  # type: ignore[arg-type]
    reader = frames(media)
    assert number(next(reader).data) == 0
    assert sum(1 for _ in reader) >= 239
    with pytest.raises(SourceError, match="only once"):
        next(frames(media))


def test_v19_cover_art_is_no_video():
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as out:
        voice, cover = out.add_stream("libmp3lame", rate=44100), out.add_stream("png", rate=1)
        cover.width = cover.height = 64
        cover.pix_fmt = "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered(3), format="rgb24")
        for packet in [*cover.encode(picture), *cover.encode()]:
            out.mux(packet)
        wave = av.AudioFrame.from_ndarray(tone(1.0).T.copy(), format="fltp", layout="mono")
        wave.sample_rate = 44100
        for packet in [*voice.encode(wave), *voice.encode()]:
            out.mux(packet)
    media = open_media(file.getvalue())
    assert media.kind == "audio"
    refused(file.getvalue(), "no video", "has audio")


def test_v20_too_many_streams():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        voices = [out.add_stream("pcm_s16le", rate=8000) for _ in range(40)]
        for voice in voices:
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 100), np.int16), format="s16", layout="mono")
            wave.sample_rate = 8000
            for packet in voice.encode(wave):
                out.mux(packet)
    refused(file.getvalue(), "streams", "40 streams", "16")


def test_v20_too_many_chapters_and_too_large_an_index():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        base = Fraction(1, 30)
        chapters = [{"id": i, "start": i, "end": i + 1, "time_base": base, "metadata": {}} for i in range(5000)]
        out.set_chapters(chapters)
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(numbered(0), format="rgb24")), *stream.encode()]:
            out.mux(packet)
    refused(file.getvalue(), "chapters", "5000 chapters")
    refused(clip(30), "header", "index of", budget=Budget(header_bytes=100))


def test_v20_metadata():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        out.metadata["comment"] = "x" * (8 << 20)
        stream = out.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(numbered(0), format="rgb24")), *stream.encode()]:
            out.mux(packet)
    refused(file.getvalue(), "metadata", "characters of metadata")
    refused(b"ID3\x04\0\0\x32\0\0\0" + bytes(100), "metadata", "bytes of tags")


def test_v21_the_header_is_not_believed():
    data = bytearray(clip(10, container="matroska"))
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double in milliseconds
    data[at : at + 8] = struct.pack(">d", 1e12)
    media = open_media(bytes(data))
    assert media.duration == pytest.approx(1e9)
    assert numbers(media) == list(range(10))
    assert len(list(frames(media, fps=1000))) <= 400
    assert [number(f.data) for f in uniform(media, 3)] == [9, 9, 9]


def test_v22_bit_flips_are_counted_and_survived():
    data = bytearray(clip(120, options={"g": "10"}, width=256, height=256))
    rng = np.random.default_rng(0)
    at = data.index(b"mdat") + 4
    end = data.index(b"moov")
    for i in rng.integers(at + 2000, end, 12):
        data[i] ^= 1 << int(rng.integers(8))
    media = open_media(bytes(data))
    stamps = times(media)
    assert len(stamps) > 60
    assert (np.diff(stamps) > 0).all()
    assert any(w.startswith("corrupt") for w in media.warnings)


def test_v22_errors_have_a_budget():
    data = bytearray(clip(60, options={"g": "1"}))
    at, end = data.index(b"mdat") + 1500, data.index(b"moov")
    data[at:end] = bytes(end - at)
    media = open_media(bytes(data), budget=Budget(errors=5))
    reader = frames(media)
    assert number(next(reader).data) == 0  # what came before the fault is kept
    with pytest.raises(LimitError, match="more than 5 broken packets"):
        list(reader)


def test_v22_an_open_start_is_waited_for():
    data = clip(60, container="mpegts", options={"g": "20"})
    cut = data[len(data) // 3 // 188 * 188 :]
    found = numbers(open_media(cut))
    assert found == sorted(found)
    assert found[-1] == 59


def test_v23_encrypted():
    keys = {"encryption_key": "00" * 16, "encryption_kid": "11" * 16, "encryption_scheme": "cenc-aes-ctr"}
    refused(clip(10, muxing=keys), "encrypted", "encrypted")


def test_v24_codec_off_the_list():
    refused(clip(3, codec="magicyuv", container="avi", pix_fmt="yuv420p"), "codec", "not allowed", "magicyuv")


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt"),
    [("libsvtav1", "matroska", "yuv420p"), ("libx265", "mp4", "yuv420p10le"), ("libvpx-vp9", "webm", "yuv420p")],
)
def test_v25_modern_codecs(codec, container, pix_fmt):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    data = clip(10, codec=codec, container=container, pix_fmt=pix_fmt, options=options)
    assert numbers(open_media(data)) == list(range(10))


def test_v25_interlaced_says_so():
    data = clip(10, codec="mpeg2video", container="mpegts", options={"flags": "+ilme+ildct"})
    media = open_media(data)
    assert len(numbers(media)) == 10
    assert any(w.startswith("interlaced") for w in media.warnings)


def test_v26_a_pattern_is_a_literal_name(tmp_path):
    path = tmp_path / "frame%03d.mp4"
    path.write_bytes(clip(3))
    (tmp_path / "frame001.mp4").write_bytes(clip(9))
    assert numbers(open_media(str(path))) == [0, 1, 2]


def test_v26_data_behind_the_streams_is_ignored():
    assert numbers(open_media(clip(5) + box(b"free", bytes(100)))) == list(range(5))
