"""Show and Tell: the decoder against torch's own LSTM, in float64."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from masks import relative_error
from torch import Tensor, nn

from mmworld.generate.beam import Beam
from mmworld.generate.decode import decode
from mmworld.generate.stop import Stop
from mmworld.models.zoo.parity.equations.show_and_tell import tiny
from mmworld.nn.lstm import LSTM, LSTMState


def like_torch(ours: LSTM, c_in: int, width: int) -> nn.LSTM:
    """torch's LSTM with our weights; of its two biases one is ours."""
    theirs = nn.LSTM(c_in, width, len(ours.layers), batch_first=True).double()
    with torch.no_grad():
        for i, cell in enumerate(ours.layers):
            getattr(theirs, f"weight_ih_l{i}").copy_(cell.x.weight)
            getattr(theirs, f"weight_hh_l{i}").copy_(cell.m.weight)
            getattr(theirs, f"bias_ih_l{i}").copy_(cell.x.bias)
            getattr(theirs, f"bias_hh_l{i}").zero_()
    return theirs


@torch.no_grad()
@given(steps=st.integers(1, 9), depth=st.integers(1, 3), cut=st.integers(0, 9), seed=st.integers(0, 99))
def test_it_is_torch_s_lstm_in_one_go_and_in_two(steps: int, depth: int, cut: int, seed: int) -> None:
    torch.manual_seed(seed)
    ours = LSTM(5, 7, depth).double()
    x = torch.randn(2, steps, 5, dtype=torch.float64)
    told, (m, c) = like_torch(ours, 5, 7)(x)
    state = LSTMState()
    parts = [ours(part, state) for part in (x[:, :cut], x[:, cut:]) if part.shape[1]]
    assert relative_error(torch.cat(parts, dim=1), told) <= 1e-12
    assert relative_error(ours(x), told) <= 1e-12
    for i, (cell, out) in enumerate(state.layers):
        assert relative_error(cell, c[i]) <= 1e-12
        assert relative_error(out, m[i]) <= 1e-12


class Words:
    ends = (2,)

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(map(str, ids))


@torch.no_grad()
def test_captions_of_a_batch_are_those_of_each_picture() -> None:
    model, pixels = tiny(), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    model.tokenizer = Words()

    def captions(shown: Tensor, sampler: Beam | None) -> list[str]:
        state = model.show(shown)
        first = model.read(torch.ones(len(shown), 1, dtype=torch.long), state)
        made = decode(model, state, first, sampler, Stop(8)) if sampler else decode(model, state, first, stop=Stop(8))
        return [g.text for g in made]

    for sampler in (None, Beam(3)):
        together = captions(pixels, sampler)
        assert together == [captions(pixels[i : i + 1], sampler)[0] for i in range(3)]
