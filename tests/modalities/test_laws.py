"""Every built-in modality obeys the laws, on streams that wrap its window too; whatever breaks one is found."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import NAMES, SECONDS, randomised, stream, tiny
from torch import nn

from mmworld.models.modality import check_modality, encode_many, split
from mmworld.models.world import make_adapter
from mmworld.nn.blocks import BlockEncoder
from mmworld.types import Chunk, Tokens

KINDS = pytest.mark.parametrize("name", NAMES)


@KINDS
@settings(max_examples=10)
@given(seed=st.integers(0, 2**20), part=st.floats(0.0, 1.0), start=st.floats(0.0, 1e5))
def test_laws(name: str, seed: int, part: float, start: float) -> None:
    check_modality(tiny(name), stream(name, part * SECONDS[name], seed=seed, start=start), seed=seed, rounds=2)


@KINDS
def test_laws_of_the_shipped_sizes(name: str) -> None:
    """Of streams that wrap the window of the encoder as it ships."""
    seconds = {"audio": 5.6, "image": 0.7, "points": 4.6, "sensor": 17.4, "video": 4.7}[name]
    encoder = randomised(make_adapter(name, {}))
    check_modality(encoder, stream(name, seconds, size=96), rounds=1)


@KINDS
def test_a_stream_in_pieces_of_one_row(name: str) -> None:
    m, whole = tiny(name), stream(name, {"audio": 0.01, "points": 0.5}.get(name, SECONDS[name]), seed=3)
    rest, pieces = whole, []
    while len(rest.data) > 1:
        piece, rest = split(m, rest, 1)
        pieces.append(piece)
    check_modality(m, [*pieces, rest], rounds=1)


@KINDS
def test_gradients_reach_every_weight(name: str) -> None:
    m = copy.deepcopy(tiny(name))
    chunks = [stream(name, SECONDS[name] * part, seed=i) for i, part in enumerate((1.0, 0.5, 1.0))]
    tokens = encode_many(m, chunks)
    sum((t.x * torch.randn_like(t.x)).sum() for t in tokens).backward()
    unreached = [
        n for n, p in m.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    # of a sensor's channels only those that are there
    assert not [n for n in unreached if not n.startswith(("encoder.stem.scale", "encoder.stem.shift"))]


@KINDS
def test_packed_gradients_are_those_of_the_loop(name: str) -> None:
    chunks = [stream(name, SECONDS[name] * part, seed=i) for i, part in enumerate((0.6, 1.0, 0.3))]
    grads = []
    for run in (encode_many, lambda m, cs: [m.encode(c) for c in cs]):
        m = copy.deepcopy(tiny(name)).double()
        sum(t.x.square().sum() for t in run(m, chunks)).backward()
        grads.append({n: p.grad for n, p in m.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for n, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][n], rtol=1e-6, atol=1e-6 * float(grad.abs().max()), msg=n)


@KINDS
def test_half_precision_gives_half_precision(name: str) -> None:
    m = copy.deepcopy(tiny(name)).bfloat16()
    tokens = m.encode(stream(name, SECONDS[name], seed=1))
    assert tokens.x.dtype == torch.bfloat16
    assert tokens.start.dtype == torch.float64
    assert tokens.x.isfinite().all()


@KINDS
def test_state_is_bounded(name: str) -> None:
    """A stream in its second half holds no more than in its first."""
    m, whole = tiny(name), stream(name, 8 * SECONDS[name], seed=2)
    state, sizes, rest = m.init_state(), [], whole
    row = len(whole.data) // 64 or 1
    with torch.no_grad():
        while len(rest.data) > row:
            piece, rest = split(m, rest, row)
            m.encode(piece, state)
            sizes.append(state.nbytes)
    half = len(sizes) // 2
    assert max(sizes[half:]) <= 1.5 * max(sizes[:half])


class Broken(nn.Module):
    """The tiny sensor encoder with one law broken."""

    def __init__(self, law: str) -> None:
        super().__init__()
        self.inner, self.law = copy.deepcopy(tiny("sensor")), law
        self.name, self.hop, self.rate, self.dim = "sensor", self.inner.hop, self.inner.rate, self.inner.dim
        self.seen, self.shared = torch.zeros(()), self.inner.init_state()

    def init_state(self) -> Any:
        if self.law == "isolation of two states":
            return self.shared
        state = self.inner.init_state()
        if self.law == "isolation of a fork":
            state.fork = lambda: state
        return state

    def encode(self, chunk: Chunk, state: Any = None) -> Tokens:
        encoder: BlockEncoder = self.inner.encoder
        if self.law == "flush":
            chunk = Chunk(chunk.data, chunk.start, chunk.end, chunk.modality, last=False)
        t = encoder.encode(chunk, state)
        x, start, end = t.x, t.start, t.end
        if self.law == "batch norm" and len(x) > 1:
            x = (x - x.mean(0)) / (x.std(0) + 1e-3)
        if self.law == "causality" and len(x):
            x = x + x[-1:]
        if self.law == "clock":
            start, end = start + 0.01, end + 0.01
        if self.law == "not finite":
            x = x / 0.0
        if self.law == "width":
            x = x[:, 1:]
        return Tokens(x, start, end, t.blocks)

    def encode_many(self, chunks: list[Chunk]) -> list[Tokens]:
        out = [self.encode(c) for c in chunks]
        if self.law == "encode_many":
            out = [Tokens(t.x + out[0].x.sum() * (t is not out[0]), t.start, t.end, t.blocks) for t in out]
        return out

    def encode_next(self, chunks: list[Chunk], states: list[Any]) -> list[Tokens]:
        if self.law == "encode_next":
            states = states[::-1]
        return [self.encode(c, s) for c, s in zip(chunks, states, strict=True)]


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("none", ""),
        ("batch norm", "chunking"),
        ("causality", "chunking|causality"),
        ("flush", "tiling: the stream goes on"),
        ("clock", "tiling: block i does not start"),
        ("not finite", "not finite"),
        ("width", "wide"),
        ("isolation of two states", "tiling|chunking|isolation"),
        ("isolation of a fork", "isolation of a fork"),
        ("encode_many", "encode_many"),
        ("encode_next", "encode_next"),
    ],
)
def test_a_broken_law_is_named(law: str, message: str) -> None:
    chunk = stream("sensor", 3.2, seed=1)
    if law == "none":
        check_modality(Broken(law), chunk)
    else:
        with pytest.raises(AssertionError, match=message):
            check_modality(Broken(law), chunk)


def test_mode_and_weights_are_left_alone() -> None:
    m = copy.deepcopy(tiny("sensor")).train()
    before = copy.deepcopy(m.state_dict())
    check_modality(m, stream("sensor", 1.7))
    assert m.training
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items())
