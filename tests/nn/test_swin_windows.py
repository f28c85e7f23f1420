"""Windows of a grid, against attention over all of it with what each token does not see left out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import ConfigError
from mmworld.nn.attention import Pass
from mmworld.nn.layer import TransformerConfig
from mmworld.nn.windows import Merge, Windows


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), n=st.integers(1, 4), data=st.data())
@torch.no_grad()
def test_a_token_sees_its_window(rows: int, columns: int, n: int, data: st.DataObject) -> None:
    shift, grid = data.draw(st.integers(0, n - 1)), (rows * n, columns * n)
    windows = Windows(TransformerConfig(8, 1, 2), grid, n, shift)
    windows.offsets.normal_()
    x = torch.randn(2, grid[0] * grid[1], 8)
    at = torch.cartesian_prod(*(torch.arange(size) for size in grid)).view(-1, 2)
    # Windows begin `shift` behind the grid's, and what is before the first is one by itself.
    home = (at - shift).div(n, rounding_mode="floor")
    seen = (home[:, None] == home[None, :]).all(-1)
    back = at[:, None] - at[None, :] + n - 1
    row = (back[..., 0] * (2 * n - 1) + back[..., 1]).where(seen, 0)
    bias = windows.offsets[row].permute(2, 0, 1).masked_fill(~seen, -torch.inf)
    want = windows.attention(x, Pass(bias=bias), 0)
    torch.testing.assert_close(windows(x, Pass(), 0), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_four_neighbours_become_one() -> None:
    merge = Merge(3, (4, 2))
    x = torch.randn(1, 8, 3)
    four = torch.cat([x[0, i] for i in (0, 2, 1, 3)])  # down first, then across
    torch.testing.assert_close(merge(x)[0, 0], merge.join(merge.norm(four)))
    assert merge(x).shape == (1, 2, 6)


def test_windows_tile_the_grid() -> None:
    with pytest.raises(ConfigError, match="windows of 4 x 4 do not tile a grid of 8 x 6"):
        Windows(TransformerConfig(8, 1, 2), (8, 6), 4)
