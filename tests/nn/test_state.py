"""A stream through a state, in any chunks, is one masked pass; a state is isolated, bounded and can be saved."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from played import seen_by, seen_of_each_kind, streamed_by_definition
from safetensors.torch import load, save
from torch import Tensor

from mmworld.attention import CAUSAL, Mask
from mmworld.errors import CheckpointError
from mmworld.nn.attention import CrossAttention
from mmworld.nn.layer import Layer
from mmworld.nn.position import RelativeBias, Rotary
from mmworld.nn.state import KVState
from mmworld.nn.transformer import Transformer, TransformerConfig

CONFIG = TransformerConfig(dim=24, depth=2, n_heads=4, n_kv_heads=2, hidden=32)
LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}


def rotary(dtype: torch.dtype = torch.float64) -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG, position=Rotary(6)).to(dtype).eval()


def biased() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG, bias=RelativeBias(4, 8, 16, causal=True)).double().eval()


MODELS = {torch.float64: rotary(), torch.float32: rotary(torch.float32)}


def tokens(n: int, dtype: torch.dtype = torch.float64, batch: int = 1) -> Tensor:
    return torch.randn(batch, n, 24, generator=torch.Generator().manual_seed(n), dtype=torch.float64).to(dtype)


def chunked(model: Transformer, x: Tensor, chunks: list[tuple[int, ...]], state: KVState) -> Tensor:
    parts = x.split([sum(c) for c in chunks], dim=1)
    return torch.cat([model(p, Mask("blocks", c), state) for p, c in zip(parts, chunks, strict=True)], dim=1)


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Chunks of a stream, each a few blocks of a few tokens, some blocks empty."""
    block = st.integers(0, 4) if draw(st.booleans()) else st.integers(1, 4)
    chunks = draw(st.lists(st.lists(block, min_size=1, max_size=5).map(tuple), min_size=1, max_size=8))
    return chunks


@given(streams(), st.none() | st.integers(1, 6), st.sampled_from(sorted(LIMITS, key=str)), st.booleans())
def test_any_chunking_is_one_masked_pass(
    chunks: list[tuple[int, ...]], window: int | None, dtype: torch.dtype, grad: bool
) -> None:
    blocks = sum(chunks, ())
    model, x = MODELS[dtype], tokens(sum(blocks), dtype, batch=2)
    with torch.set_grad_enabled(grad):
        whole = model(x, Mask("blocks", blocks, window))
        state = KVState(window)
        assert relative_error(chunked(model, x, chunks, state), whole) < LIMITS[dtype]
    assert window is None or len(state.blocks) <= window


AXES = Transformer(CONFIG, position=Rotary(6, sections=(2, 1))).double().eval()


@given(streams(), st.none() | st.integers(1, 6), st.integers(-9, 9), st.data())
def test_positions_on_axes_stream_too(
    chunks: list[tuple[int, ...]], window: int | None, jump: int, data: st.DataObject
) -> None:
    """Chunks at places of their own, between others that count on from where the state says."""
    x, state, at, outs = tokens(sum(sum(chunks, ()))), KVState(window), [], []
    for part, chunk in zip(x.split([sum(c) for c in chunks], dim=1), chunks, strict=True):
        n, start = sum(chunk), state.next
        if data.draw(st.booleans()):
            places = torch.randint(0, 99, (2, n), generator=torch.Generator().manual_seed(n)) + start
            outs.append(AXES(part, Mask("blocks", chunk), state, places=places))
            state.delta += jump
        else:
            places = torch.arange(start, start + n).expand(2, -1)
            outs.append(AXES(part, Mask("blocks", chunk), state))
        at.append(places)
        state = KVState.from_tensors(KVState.stack([state.fork()]).tensors())
    whole = AXES(x, Mask("blocks", sum(chunks, ()), window), places=torch.cat(at, dim=1))
    assert relative_error(torch.cat(outs, dim=1), whole) < 1e-10


def test_places_in_a_compact_state_are_of_all_that_it_holds() -> None:
    """And none of that goes; `Rolling` gives them so, see tests/nn/test_rolling.py."""
    for state, n in ((KVState(9, 1), 2), (KVState(9, 1), 4), (KVState(1, 1), 3)):
        with pytest.raises(ValueError, match="places are of all that it holds"):
            AXES(tokens(3), CAUSAL, state, places=torch.zeros(2, n).long())


@given(streams(), st.integers(1, 6))
def test_relative_biases_stream_too(chunks: list[tuple[int, ...]], window: int) -> None:
    blocks = sum(chunks, ())
    model, x = biased(), tokens(sum(blocks))
    whole = model(x, Mask("blocks", blocks, window))
    assert relative_error(chunked(model, x, chunks, KVState(window)), whole) < 1e-10


@given(streams(), st.integers(1, 4), st.integers(1, 3))
def test_without_positions_sinks_are_those_of_the_mask(chunks: list[tuple[int, ...]], window: int, sinks: int) -> None:
    torch.manual_seed(0)
    model, blocks = Transformer(CONFIG).double().eval(), sum(chunks, ())
    x = tokens(sum(blocks))
    whole = model(x, Mask("blocks", blocks, window, sinks))
    assert relative_error(chunked(model, x, chunks, KVState(window, sinks)), whole) < 1e-10


@given(streams(), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_sinks_stand_right_before_the_window(
    chunks: list[tuple[int, ...]], window: int, sinks: int, grad: bool
) -> None:
    chunks = [tuple(max(n, 1) for n in c) for c in chunks]
    blocks = sum(chunks, ())
    model, x = MODELS[torch.float64], tokens(sum(blocks))
    with torch.set_grad_enabled(grad):
        got = chunked(model, x, chunks, KVState(window, sinks))
        assert (
            relative_error(got, streamed_by_definition(model, x, blocks, lambda i: seen_by(i, window, sinks))) < 1e-10
        )


KINDS = 3


@given(
    st.lists(st.tuples(st.integers(0, KINDS - 1), st.integers(1, 3), st.booleans()), min_size=1, max_size=24),
    st.lists(st.none() | st.integers(1, 4), min_size=KINDS, max_size=KINDS),
    st.none() | st.integers(1, 6),
    st.integers(0, 2),
)
def test_each_kind_of_block_is_kept_for_as_long_as_its_limit_says(
    coming: list[tuple[int, int, bool]], limits: list[int | None], window: int | None, sinks: int
) -> None:
    """Blocks of several kinds, alone or a few of one kind together, with saves between."""
    kinds, blocks = [k for k, _, _ in coming], tuple(n for _, n, _ in coming)
    model, x, state = MODELS[torch.float64], tokens(sum(blocks)), KVState(window, sinks, limits=tuple(limits))
    outs, at = [], 0
    while at < len(blocks):
        stop = at + 1
        while stop < len(blocks) and kinds[stop] == kinds[at] and coming[stop][2]:
            stop += 1
        part = x[:, sum(blocks[:at]) : sum(blocks[:stop])]
        state.kind = kinds[at]
        outs.append(model(part, Mask("blocks", blocks[at:stop]), state))
        state, at = KVState.from_tensors(KVState.stack([state.fork()]).tensors()), stop
    seen = seen_of_each_kind(kinds, limits, window, sinks)
    want = streamed_by_definition(model, x, blocks, lambda i: seen[i])
    assert relative_error(torch.cat(outs, dim=1), want) < 1e-10
    assert [kinds[j] for j in seen[-1]] == list(state.kinds)


@torch.no_grad()
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4), st.none() | st.integers(2, 3))
def test_forks_go_on_apart(sizes: list[int], fork_at: int, window: int | None) -> None:
    model, x = MODELS[torch.float64], tokens(sum(sizes))
    other = tokens(sum(sizes) + 1)[:, : sum(sizes)]
    a = KVState(window, 1)
    b, outs = None, ([], [])
    for i, n in enumerate(sizes):
        at = sum(sizes[:i])
        if i == fork_at:
            b = a.fork()
        if b is not None:  # turn about, so that each would see what the other wrote
            outs[1].append(model(other[:, at : at + n], Mask("blocks", (n,)), b))
        outs[0].append(model(x[:, at : at + n], Mask("blocks", (n,)), a))
    chunks, cut = [(n,) for n in sizes], sum(sizes[:fork_at])
    assert relative_error(torch.cat(outs[0], dim=1), chunked(model, x, chunks, KVState(window, 1))) < 1e-10
    if b is not None:
        mixed = torch.cat((x[:, :cut], other[:, cut:]), dim=1)
        expected = chunked(model, mixed, chunks, KVState(window, 1))[:, cut:]
        assert relative_error(torch.cat(outs[1], dim=1), expected) < 1e-10


@torch.no_grad()
def test_a_fork_costs_no_copy_until_it_is_written_to() -> None:
    state = KVState()
    MODELS[torch.float32](tokens(9, torch.float32), CAUSAL, state)
    fork = state.fork()
    assert [r.x.data_ptr() for r in fork.keys] == [r.x.data_ptr() for r in state.keys]


@pytest.mark.parametrize(("sinks", "steps"), [(0, 1_000), (2, 10_000)])
def test_a_long_stream_costs_and_computes_what_a_short_one_does(sinks: int, steps: int) -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(8, 1, 2, hidden=8), position=Rotary(4)).eval()
    state, x, most = KVState(8, sinks), torch.randn(100, 2, 8), 0
    with torch.inference_mode():
        for i in range(steps):
            late = model(x[None, i % 100], Mask("blocks", (2,)), state)
            if i < 100:
                most, early = max(most, state.nbytes), late
            assert state.nbytes <= most
            assert len(state) <= 2 * (8 + sinks)
    assert relative_error(late, early) < 1e-5
    assert state.offset == (0 if sinks else 2 * (steps - 8))


def test_a_billion_tokens_later_it_computes_the_same() -> None:
    x = tokens(40, torch.float32)
    late, early = KVState(3, offset=10**9), KVState(3)
    outs = [chunked(MODELS[torch.float32], x, [(2, 2)] * 10, state) for state in (late, early)]
    assert relative_error(*outs) < 1e-5


@torch.no_grad()
def test_appending_token_by_token_copies_seldom() -> None:
    model, state, places = MODELS[torch.float32], KVState(), set()
    for x in tokens(500, torch.float32).split(1, dim=1):
        model(x, CAUSAL, state)
        places.add(state.keys[0].x.data_ptr())
    assert len(places) < 16
    assert state.nbytes <= 2 * 4 * 500 * (2 * 2 * 6) * 4


@given(streams(), st.none() | st.integers(1, 4), st.integers(0, 2))
def test_saved_and_loaded_it_goes_on(chunks: list[tuple[int, ...]], window: int | None, sinks: int) -> None:
    model, x = MODELS[torch.float64], tokens(sum(sum(chunks, ())) + 3)
    with torch.no_grad():
        state = KVState(window, sinks)
        chunked(model, x[:, :-3], chunks, state)
        again = KVState.from_tensors(load(save(state.tensors())))
        assert (again.window, again.sinks, again.blocks) == (state.window, state.sinks, state.blocks)
        last = x[:, -3:], Mask("blocks", (2, 1))
        assert torch.equal(model(*last, again), model(*last, state))


def test_a_damaged_state_is_refused() -> None:
    state = KVState(4)
    MODELS[torch.float64](tokens(5), CAUSAL, state)
    good = state.tensors()
    damaged = [{n: x for n, x in good.items() if n != name} for name in good if name not in ("keys.1", "values.1")]
    damaged += [{n: x for n, x in good.items() if n != "values.1"}]
    damaged += [good | {"keys.0": good["keys.0"][:, 1:]}, good | {"values.1": torch.zeros(3)}]
    damaged += [good | {"blocks": torch.tensor(blocks)} for blocks in ([3, 3], [5, -1], [[4]])]
    damaged += [good | {"limits": torch.tensor([3, 3])}]
    for tensors in damaged:
        with pytest.raises(CheckpointError, match="saved state"):
            KVState.from_tensors(tensors)


@torch.no_grad()
def test_rows_of_a_batch_can_be_chosen_anew() -> None:
    model, x = MODELS[torch.float64], tokens(6, batch=3)
    state = KVState()
    model(x[:, :4], CAUSAL, state)
    rows = torch.tensor([2, 0, 2, 1])
    state.select(rows)
    assert relative_error(model(x[rows, 4:], CAUSAL, state), model(x, CAUSAL)[rows, 4:]) < 1e-10
    state.context[0] = x, x
    state.select(rows[:3])
    assert all(torch.equal(held, x[rows[:3]]) for held in state.context[0])


@torch.no_grad()
@given(streams(), st.none() | st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))
def test_stacked_states_go_on_as_each_alone(
    chunks: list[tuple[int, ...]], window: int | None, sinks: int, n: int
) -> None:
    model, length = rotary(), sum(map(sum, chunks))
    rows = tokens(length + 3, batch=n)
    alone = [KVState(window, sinks) for _ in range(n)]
    for x, state in zip(rows, alone, strict=True):
        chunked(model, x[None, :length], chunks, state)
    stacked = KVState.stack(alone)
    together = model(rows[:, length:], CAUSAL, stacked)
    want = [model(x[None, length:], CAUSAL, state) for x, state in zip(rows, alone, strict=True)]
    assert relative_error(together, torch.cat(want)) < 1e-10


@given(picks=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=4))
def test_one_row_that_is_repeated_is_held_once(picks: list[list[int]]) -> None:
    """As the beams of one picture or sound are."""
    state, x = KVState(), torch.randn(1, 5, 2, 3)
    state.context[0] = x, 2 * x
    once = state.nbytes
    n = 1
    for pick in picks:
        state.select(torch.tensor([i % n for i in pick]))
        n = len(pick)
        assert torch.equal(state.context[0][0], x.repeat(n, 1, 1, 1))
        assert torch.equal(state.context[0][1], 2 * x.repeat(n, 1, 1, 1))
        assert state.nbytes == once
    (again,) = KVState.from_tensors(state.tensors()).context.values()
    assert torch.equal(again[0], state.context[0][0])


def test_states_of_different_shapes_do_not_stack() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        KVState.stack([KVState(), KVState(window=3)])


@torch.no_grad()
def test_a_state_keeps_the_context() -> None:
    torch.manual_seed(0)
    layers = lambda _: Layer(CONFIG, cross=CrossAttention(CONFIG, context_dim=10))  # noqa: E731
    model = Transformer(CONFIG, position=Rotary(6), layer=layers).double().eval()
    x, first, second = tokens(6), torch.randn(1, 7, 10).double(), torch.randn(1, 3, 10).double()
    state = KVState()
    head = model(x[:, :4], CAUSAL, state, first)
    fork = KVState.from_tensors(state.fork().tensors())
    assert relative_error(torch.cat((head, model(x[:, 4:], CAUSAL, state)), 1), model(x, CAUSAL, None, first)) < 1e-10
    changed = model(x[:, 4:], CAUSAL, fork, second)
    assert relative_error(model(x[:, 4:], CAUSAL, KVState(), second), changed) > 1e-3  # it still remembers the past
    assert fork.context[0][0].shape[1] == 3
    with pytest.raises(ValueError, match="needs a context"):
        model(x, CAUSAL)


def test_gradients_flow_through_a_state() -> None:
    model, x = rotary(), tokens(9).requires_grad_()
    blocks = ((2, 1), (3,), (1, 2))
    for window in (None, 2):
        along = tokens(9)
        got = torch.autograd.grad(chunked(model, x, list(blocks), KVState(window)), x, along)[0]
        want = torch.autograd.grad(model(x, Mask("blocks", sum(blocks, ()), window)), x, along)[0]
        assert relative_error(got, want) < 1e-10


def test_gradients_are_not_harmed_by_what_comes_later() -> None:
    model, x = rotary(), tokens(9).requires_grad_()
    state = KVState()
    early = model(x[:, :5], CAUSAL, state)
    with torch.no_grad():
        model(x[:, 5:], Mask("blocks", (2, 2)), state)
    got, want = (torch.autograd.grad(y.sum(), x)[0] for y in (early, model(x[:, :5], CAUSAL)))
    assert relative_error(got, want) < 1e-10


@given(st.lists(st.sampled_from(["grad", "no_grad", "inference"]), min_size=2, max_size=8))
def test_modes_can_change_on_the_way(modes: list[str]) -> None:
    model, x = MODELS[torch.float64], tokens(2 * len(modes))
    makers = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    if "inference" in modes:
        modes = [m if m != "grad" else "no_grad" for m in modes]  # torch itself refuses to mix those two
    state, out = KVState(3, 1), []
    for part, mode in zip(x.split(2, dim=1), modes, strict=True):
        with makers[mode]():
            out.append(model(part, CAUSAL, state).detach().clone())
    assert relative_error(torch.cat(out, dim=1), chunked(model, x, [(1, 1)] * len(modes), KVState(3, 1))) < 1e-10


def test_what_does_not_fit_a_state_is_refused() -> None:
    model, x = MODELS[torch.float64], tokens(4)
    for mask in (Mask("causal", lengths=(2, 2)), Mask("causal", window=3), Mask("blocks", (3,))):
        with pytest.raises(ValueError, match=r"stream|window|blocks"):
            model(x, mask, KVState(2))
