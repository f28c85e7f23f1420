"""Sounds that go wrong, rows A1 to A9 of the contract (A8, silence, is the captioner's)."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import clip, sound_file, tone, wav

from mmworld.errors import LimitError, MediaError
from mmworld.media.audio import samples
from mmworld.media.budget import Budget
from mmworld.media.gate import Media, open_media


def heard(media: Media, **options: object) -> np.ndarray:
    """All samples [S, C], after checking that the pieces tile the time."""
    pieces = list(samples(media, **options))  # type: ignore[arg-type]
    rate = options.get("rate") or (media.audio.rate if media.audio else 1)
    n = 0
    for piece in pieces:
        assert piece.time == pytest.approx(pieces[0].time + n / rate, abs=1e-9)  # type: ignore[operator]
        n += len(piece.data)
    return np.concatenate([p.data.numpy() for p in pieces]) if pieces else np.zeros((0, 1), np.float32)


def refused(data: bytes, *words: str) -> None:
    with pytest.raises(MediaError) as caught:
        list(samples(open_media(data)))
    assert caught.value.exit_code == 4
    assert all(word in str(caught.value) for word in words), str(caught.value)


def pcm16(x: np.ndarray) -> bytes:
    return np.round(x * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def test_a1_high_rate_many_channels_24_bits():
    x = tone(1.0, 96_000, channels=6)
    data = sound_file(x, 96_000, codec="pcm_s24le")
    media = open_media(data)
    assert (media.audio.rate, media.audio.channels) == (96_000, 6)  # type: ignore[union-attr]
    assert np.abs(heard(media) - x).max() < 2**-20
    mono = heard(media, rate=16_000, mono=True)
    assert mono.shape == (16_000, 1)
    expected = tone(1.0, 16_000, channels=6).mean(1, keepdims=True)
    assert np.abs(mono - expected)[200:-200].max() < 2e-3


def test_a2_mp3_with_a_broken_header_is_salvaged(tmp_path):
    data = sound_file(tone(3.0), codec="libmp3lame", container="mp3")
    start = data.index(b"\xff\xfb")
    path = tmp_path / "broken.mp3"
    path.write_bytes(bytes(500) + data[start:])
    assert len(heard(open_media(path))) >= 2.9 * 44_100
    middle = bytearray(data)
    middle[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    media = open_media(bytes(middle))
    assert abs(len(heard(media)) - 3 * 44_100) < 0.2 * 44_100


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0, 0x7FFFFFFF])
def test_a3_a_live_wav_is_read_to_its_end(length):
    x = tone(0.5, 16_000)
    data = wav(pcm16(x), 16_000, 1, length=length)
    for source in (data, Unsought(data)):
        assert abs(len(heard(open_media(source))) - len(x)) <= (0 if length else len(x))  # type: ignore[arg-type]


class Unsought(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_a3_a_cut_wav():
    x = tone(2.0, 16_000)
    media = open_media(wav(pcm16(x), 16_000, 1)[:40_000])
    assert len(heard(media)) == (40_000 - 44) // 2


@pytest.mark.parametrize(
    ("rate", "channels"),
    [(0, 1), (16_000, 0), (16_000, 65_535), (2_147_483_647, 1), (1, 1), (16_000, 33), (500_000, 2)],
)
def test_a4_a5_rates_and_channels_out_of_range(rate, channels):
    refused(wav(bytes(4000), rate, channels))


def test_a6_nothing_and_ten_milliseconds():
    assert len(heard(open_media(wav(b"", 16_000, 1)))) == 0
    assert len(heard(open_media(wav(pcm16(tone(0.01, 16_000)), 16_000, 1)))) == 160
    assert heard(open_media(wav(pcm16(tone(0.01, 16_000)), 16_000, 1)), rate=8000).shape == (80, 1)


def test_a7_nan_and_inf_become_silence_and_are_counted():
    x = tone(0.5, 16_000)
    x[100], x[200], x[300] = np.nan, np.inf, -np.inf
    media = open_media(wav(x.astype("<f4").tobytes(), 16_000, 1, bits=32, code=3))
    y = heard(media)
    assert np.isfinite(y).all()
    assert (y[[100, 200, 300]] == 0).all()
    assert media.warnings == ["corrupt samples: 3"]
    assert np.isfinite(heard(media, rate=8000)).all()


@pytest.mark.parametrize(
    ("codec", "tolerance"),
    [
        ("pcm_u8", 1 / 100),
        ("pcm_mulaw", 1 / 20),
        ("pcm_f64le", 1e-6),
        ("pcm_s32le", 1e-6),
        ("pcm_f32le", 0.0),
        ("pcm_alaw", 1 / 20),
    ],
)
def test_a9_sample_formats(codec, tolerance):
    x = tone(0.3, 8000)
    assert np.abs(heard(open_media(sound_file(x, 8000, codec=codec))) - x).max() <= tolerance


def with_stamps(parts: list[tuple[float, np.ndarray]], rate: int = 16_000) -> bytes:
    """A Matroska file whose packets carry these times."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=rate)
        stream.codec_context.layout = "mono"
        for time, x in parts:
            packet = av.Packet(pcm16(x))
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(time * 1000)
            packet.duration = round(len(x) / rate * 1000)
            if not stream.codec_context.is_open:
                stream.codec_context.open()
            out.mux(packet)
    return file.getvalue()


def test_a9_a_gap_becomes_silence():
    x = tone(1.0, 16_000)
    parts = [(t, x[int(t * 16_000) :][:1600]) for t in np.arange(0, 1, 0.1) if not 0.35 < t < 0.65]
    media = open_media(with_stamps(parts))
    y = heard(media)
    assert len(y) == 16_000
    assert (y[6400:11_200] == 0).all()
    assert np.abs(y[11_200:] - x[11_200:]).max() < 1e-4
    assert "audio gaps" in media.warnings


def test_a9_an_overlap_is_cut():
    x = tone(1.0, 16_000)
    media = open_media(with_stamps([(0.0, x[:8000]), (0.45, x[7200:])]))
    y = heard(media)
    assert np.abs(y - x).max() < 1e-4
    assert "audio overlaps" in media.warnings


def test_a9_the_sound_of_a_video_starts_where_it_should():
    data = clip(
        60, sound=tone(1.0, 48_000), sound_rate=48_000, sound_codec="flac", sound_start=0.7, container="matroska"
    )
    media = open_media(data)
    pieces = list(samples(media))
    assert pieces[0].time == pytest.approx(0.7, abs=2e-3)
    assert sum(len(p.data) for p in pieces) == 48_000
    [late, *_] = samples(media, start=1.2)
    assert late.time == pytest.approx(1.2, abs=1e-4)


def test_a9_channels_that_change_mid_stream():
    mono, stereo = tone(0.5, 48_000), tone(0.5, 48_000, channels=2)
    chained = sound_file(mono, 48_000, codec="libopus", container="ogg") + sound_file(
        stereo, 48_000, codec="libopus", container="ogg"
    )
    y = heard(open_media(chained))
    assert y.shape[1] == 1
    assert len(y) >= 0.45 * 48_000


def test_raw_pcm_without_a_header():
    x = tone(0.5, 16_000)
    for source in (pcm16(x), Unsought(pcm16(x))):
        assert np.abs(heard(open_media(source, input_format="s16le:16000:1")) - x).max() < 1e-4  # type: ignore[arg-type]
    both = open_media(pcm16(tone(0.5, 16_000, channels=2)), input_format="s16le:16000:2")
    assert heard(both).shape == (8000, 2)
    for spec in ("s16le", "s16le:0:1", "s16le:16000:99", "mp4:16000:1", "s16le:16000:1:1", "s16le:x:1"):
        with pytest.raises(MediaError):
            open_media(pcm16(x), input_format=spec)


def test_seconds_have_a_budget():
    with pytest.raises(LimitError, match="more than 1 s of sound"):
        heard(open_media(wav(bytes(64_000), 16_000, 1), budget=Budget(seconds=1.0)))


def test_ambisonics_with_more_than_eight_channels():
    x = tone(0.2, 48_000, channels=12)
    assert heard(open_media(wav(pcm16(x), 48_000, 12)), rate=16_000).shape == (3200, 12)


def test_bytes_of_noise_behind_a_header():
    rng = np.random.default_rng(0)
    for container, codec in (("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac")):
        data = bytearray(sound_file(tone(1.0, 48_000), 48_000, codec=codec, container=container))
        for at in rng.integers(len(data) // 4, len(data), 40):
            data[at] = rng.integers(256)
        y = heard(open_media(bytes(data)))
        assert np.isfinite(y).all()
        assert len(y) < 10 * 48_000
