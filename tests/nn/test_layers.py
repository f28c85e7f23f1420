"""Positions, layers and their config."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from torch import nn

from mmworld.attention import CAUSAL, Mask
from mmworld.config import build
from mmworld.errors import ConfigError
from mmworld.nn.layer import FeedForward, Layer
from mmworld.nn.position import Learned, RelativeKeys, Rotary, positions, sinusoid
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer, TransformerConfig


@given(st.lists(st.integers(0, 6), max_size=5))
def test_positions_start_anew_in_each_segment(lengths: list[int]) -> None:
    got = positions(Mask("causal", lengths=tuple(lengths)), sum(lengths))
    assert got.tolist() == [i for n in lengths for i in range(n)]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(-(10**5), 10**5))
def test_rotary_logits_depend_on_distance_alone(a: int, b: int, shift: int) -> None:
    q, k = torch.randn(2, 1, 1, 2, 16, generator=torch.Generator().manual_seed(a)).double()
    rotary = Rotary(16)

    def logits(i: int, j: int) -> torch.Tensor:
        turned = (rotary(torch.tensor([at]), torch.float64)(x) for at, x in ((i, q), (j, k)))
        return (next(turned) * next(turned)).sum(-1)

    assert relative_error(logits(a + shift, b + shift), logits(a, b)) < 1e-8


@given(st.integers(0, 10**8), st.sampled_from([10_000.0, 1e6]), st.integers(0, 31))
def test_positions_after_days_are_turned_as_exactly_as_the_first(at: int, theta: float, i: int) -> None:
    """To float32's own precision, of angles computed with fifty digits."""
    turn = Rotary(64, theta)(torch.tensor([at]), torch.float32)
    with mpmath.workdps(50):
        angle = at * mpmath.mpf(theta) ** (-mpmath.mpf(i) / 32)
        want = float(mpmath.cos(angle)), float(mpmath.sin(angle))
    assert (turn.cos[0, 0, i].item(), turn.sin[0, 0, i].item()) == pytest.approx(want, abs=1e-7)


@given(st.floats(0, 1e8), st.integers(0, 15))
def test_times_after_years_are_told_apart_as_exactly_as_the_first(seconds: float, i: int) -> None:
    with mpmath.workdps(50):
        phase = 2 * mpmath.pi * mpmath.mpf(seconds) / (mpmath.mpf("0.25") * mpmath.mpf(256) ** (mpmath.mpf(i) / 15))
        want = float(mpmath.sin(phase)), float(mpmath.cos(phase))
    got = sinusoid(torch.tensor([seconds], dtype=torch.float64), 32, 0.25, 64.0)[0]
    assert (got[i].item(), got[i + 16].item()) == pytest.approx(want, abs=1e-5)


def test_rotary_is_made_in_float64_whatever_the_model_is() -> None:
    """bfloat16 buffers, as Module.to would make them, put a frequency off by 0.4%, and position 1000 by radians."""
    half = Transformer(TransformerConfig(16, 1, 2), position=Rotary(8)).to(torch.bfloat16)
    turn = half.position(torch.tensor([1000]), torch.float32)
    expected = [math.cos(1000 * 10_000 ** (-i / 4)) for i in range(4)]
    assert turn.cos[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 4), st.integers(0, 9), st.integers(1, 9), st.integers(0, 99))
def test_relative_keys_are_looked_at_by_distance(longest: int, held: int, n: int, seed: int) -> None:
    """Shaw et al. 2018, eq. 5, spelled out."""
    keys, g = RelativeKeys(4, longest), torch.Generator().manual_seed(seed)
    q, at = torch.randn(2, n, 3, 4, generator=g), torch.arange(held + n)
    got = keys(at[held:], at)(q)
    for i in range(n):
        for j in range(held + n):
            row = max(-longest, min(longest - 1, held + i - j)) + longest
            assert torch.allclose(got[:, :, i, j], q[:, i] @ keys.table.weight[row], atol=1e-6)


@given(st.lists(st.integers(0, 10**5), min_size=6, max_size=6), st.permutations([1, 2, 5]))
def test_on_axes_each_section_of_frequencies_turns_by_its_own(at: list[int], sections: list[int]) -> None:
    axes, rotary = torch.tensor(at).view(3, 2), Rotary(16, sections=tuple(sections))
    turn = rotary(axes, torch.float64)
    for t in range(2):
        owner = [a for a, n in enumerate(sections) for _ in range(n)]
        angles = [at[2 * a + t] * 10_000.0 ** (-i / 8) for i, a in enumerate(owner)]
        assert turn.cos[t, 0].tolist() == pytest.approx([math.cos(x) for x in angles], abs=1e-9)
        assert turn.sin[t, 0].tolist() == pytest.approx([math.sin(x) for x in angles], abs=1e-9)
    along = torch.tensor(at)
    assert torch.equal(rotary(along, torch.float64).cos, Rotary(16)(along, torch.float64).cos)


def test_sections_are_all_frequencies() -> None:
    with pytest.raises(ConfigError, match=r"sections \(2, 2\) of a rotation sum to 4, not 8"):
        Rotary(16, sections=(2, 2))


def test_learned_positions_have_a_limit() -> None:
    table = Learned(4, 8)
    assert torch.equal(table(torch.tensor([3, 0])), table.table.weight[[3, 0]])
    with pytest.raises(ValueError, match="position 4, the model has learned 4"):
        table(torch.tensor([4]))


def test_sinusoids_are_those_of_whisper() -> None:
    n, dim = 30, 16
    scaled = torch.arange(n)[:, None] * torch.exp(-math.log(10_000) / (dim // 2 - 1) * torch.arange(dim // 2))
    got = sinusoid(torch.arange(n), dim, 2 * math.pi, 2 * math.pi * 10_000)
    assert relative_error(got, torch.cat((scaled.sin(), scaled.cos()), dim=1)) < 1e-5


def test_a_sinusoid_of_a_late_time_is_exact() -> None:
    day = 86_400.0
    assert (
        relative_error(
            sinusoid(torch.tensor([day + 0.25]).double(), 8, 0.5, 64.0)[:, [0, 4]],
            sinusoid(torch.tensor([0.25]).double(), 8, 0.5, 64.0)[:, [0, 4]],
        )
        < 1e-9
    )


@pytest.mark.parametrize("sizes", [{"dim": 10, "n_heads": 3}, {"dim": 12, "n_heads": 4, "n_kv_heads": 3}])
def test_heads_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="is no multiple of"):
        Transformer(TransformerConfig(depth=1, **sizes))


def test_a_config_is_built_from_plain_data() -> None:
    c = build(TransformerConfig, {"dim": 8, "depth": 1, "n_heads": 2, "order": "post", "activation": "quick_gelu"})
    assert isinstance(Transformer(c).norm, torch.nn.Identity)
    with pytest.raises(ConfigError, match="activation"):
        build(TransformerConfig, {"dim": 8, "depth": 1, "n_heads": 2, "activation": "tanh"})


def test_a_gate_is_the_first_half() -> None:
    feed = FeedForward(TransformerConfig(4, 1, 1, hidden=3, activation="silu", gated=True, bias=False))
    x = torch.randn(2, 4)
    gate, value = x @ feed.up.weight[:3].T, x @ feed.up.weight[3:].T
    assert torch.allclose(feed(x), (gate * gate.sigmoid() * value) @ feed.down.weight.T, atol=1e-6)


def test_dropout_is_of_training_only() -> None:
    torch.manual_seed(0)
    model, x = Transformer(TransformerConfig(8, 1, 2, dropout=0.5)), torch.randn(1, 5, 8)
    assert not torch.equal(model(x, CAUSAL), model(x, CAUSAL))
    model.eval()
    assert torch.equal(model(x, CAUSAL), model(x, CAUSAL))


def test_a_layer_may_end_its_branches_as_it_likes() -> None:
    c = TransformerConfig(8, 2, 2)
    closed = Transformer(c, layer=lambda _: Layer(c, end=lambda: Times(0.0)))
    x = torch.randn(1, 5, 8)
    assert torch.equal(closed(x), closed.norm(x))


class Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_a_packed_row_is_each_segment_alone(lengths: list[int]) -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(16, 2, 4, n_kv_heads=2, norm="rms"), position=Rotary(4)).double()
    x = torch.randn(1, sum(lengths), 16).double()
    row = model(x, Mask("causal", lengths=tuple(lengths))).split(lengths, dim=1)
    for got, part in zip(row, x.split(lengths, dim=1), strict=True):
        assert relative_error(got, model(part, CAUSAL)) < 1e-10


@torch.no_grad()
def test_a_part_of_the_layers_is_a_transformer_of_those_alone() -> None:
    torch.manual_seed(0)
    whole = Transformer(TransformerConfig(16, 3, 2)).double()
    part = Transformer(TransformerConfig(16, 2, 2), last=nn.Identity()).double()
    part.load_state_dict({n: x for n, x in whole.state_dict().items() if not n.startswith(("layers.2.", "norm."))})
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    assert torch.equal(whole(x, depth=2), part(x))
    assert torch.equal(whole(x, depth=0), x)
    with pytest.raises(ValueError, match="a state holds all layers"):
        whole(x, state=KVState(), depth=2)
