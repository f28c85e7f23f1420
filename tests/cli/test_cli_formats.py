"""Each format reads back, and lies byte for byte as Whisper's writers lay it."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.cli.formats import FORMATS, LIVE, Origin, clock
from mmworld.types import Caption

ORIGIN = Origin("a.mp4", "nano", "abc", 0)
TWO = [Caption("a red ball\trolls", 0.0, 2.5, -0.25), Caption(" it --> stops ", 3661.0, 3662.0004)]


def text(name: str, captions: list[Caption]) -> str:
    form = FORMATS.get(name, LIVE)
    pieces = [form.piece(i, c, ORIGIN) for i, c in enumerate(captions)]
    return form.head + "".join(pieces) + form.tail(captions, ORIGIN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("txt", "a red ball rolls\nit --> stops\n"),
        ("tsv", "start\tend\ttext\n0\t2500\ta red ball rolls\n3661000\t3662000\tit --> stops\n"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:02,500\na red ball rolls\n\n2\n01:01:01,000 --> 01:01:02,000\nit -> stops\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00.000 --> 00:02.500\na red ball rolls\n\n01:01:01.000 --> 01:01:02.000\nit -> stops\n\n",
        ),
        ("live", "[00:00.000 --> 00:02.500]  a red ball rolls\n[01:01:01.000 --> 01:01:02.000]  it --> stops\n"),
    ],
)
def test_bytes_are_whispers(name: str, expected: str) -> None:
    assert text(name, TWO) == expected


def test_json_has_whispers_keys_and_our_origin() -> None:
    document = json.loads(text("json", TWO))
    assert list(document) == ["text", "segments", "language", "source", "model", "revision", "seed", "schema_version"]
    assert document["text"] == "a red ball rolls it --> stops"
    assert document["segments"][1] == {
        "id": 1,
        "start": 3661.0,
        "end": 3662.0,
        "text": "it --> stops",
        "avg_logprob": 0.0,
    }


@st.composite
def timed(draw: st.DrawFn) -> list[Caption]:
    cuts = sorted(draw(st.lists(st.integers(0, 10**8), min_size=2, max_size=12)))
    texts = st.text(min_size=1, max_size=40).filter(lambda t: bool(t.split()))
    return [Caption(draw(texts), a / 1000, b / 1000) for a, b in itertools.pairwise(cuts)]


def ms(stamp: str) -> int:
    *hours, minutes, seconds, thousandths = map(int, re.split("[:.,]", stamp))
    return (((hours or [0])[0] * 60 + minutes) * 60 + seconds) * 1000 + thousandths


@given(timed())
def test_subtitles_read_back(captions: list[Caption]) -> None:
    spans = [(round(1000 * c.start), round(1000 * c.end)) for c in captions]
    for name in ("srt", "vtt"):
        cues = re.findall(r"^([\d:.,]+) --> ([\d:.,]+)$", text(name, captions), re.MULTILINE)
        assert [(ms(a), ms(b)) for a, b in cues] == spans
    blocks = text("srt", captions).split("\n\n")[:-1]
    assert [int(block.split("\n")[0]) for block in blocks] == list(range(1, len(captions) + 1))
    assert [block.split("\n", 2)[2] for block in blocks] == [
        " ".join(c.text.split()).replace("-->", "->") for c in captions
    ]


@given(timed())
def test_tables_and_json_read_back(captions: list[Caption]) -> None:
    texts = [" ".join(c.text.split()) for c in captions]
    rows = [line.split("\t") for line in text("tsv", captions).split("\n")[1:-1]]
    assert rows == [
        [str(round(1000 * c.start)), str(round(1000 * c.end)), t] for c, t in zip(captions, texts, strict=True)
    ]
    lines = [json.loads(line) for line in text("jsonl", captions).split("\n")[:-1]]
    assert [line["text"] for line in lines] == texts == text("txt", captions).split("\n")[:-1]
    assert all(line["schema_version"] == 1 and line["source"] == "a.mp4" for line in lines)
    segments = json.loads(text("json", captions))["segments"]
    assert [(s["id"], s["start"], s["end"]) for s in segments] == [(i, c.start, c.end) for i, c in enumerate(captions)]


@given(st.floats(0, 10**7))
def test_clock_reads_back(seconds: float) -> None:
    assert ms(clock(seconds)) == ms(clock(seconds, hours=True, point=",")) == round(seconds * 1000)
