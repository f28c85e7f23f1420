"""Weights of few bits: linear layers hold int8 or int4 and multiply in the dtype of what they are given (torchao)."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmworld.errors import UsageError
from mmworld.weights.checkpoint import some

log = logging.getLogger(__name__)
Bits = Literal["int8", "int4"]
KINDS: tuple[Bits, ...] = ("int8", "int4")
GROUP = 32
"""Neighbouring inputs whose int4 weights share a scale and a zero: the smallest that the kernels take, so that the
error is least and most layers divide by it. With both in bfloat16 a weight takes five bits."""
SMALL = 16
"""Outputs below which a layer stays, as there is nothing to save; those of int4 divide by it, as their kernel needs."""
ROWS = 512
"""Rounded at a time, so that little is held beside the layer; whole tiles of every kernel."""


class Quantiser:
    """Rounds the linear layers of a model, each when it is filled.

    The weights of int8 are multiples of a scale for each output, those of int4 lie on sixteen steps between the least
    and the most of each GROUP. What is no `nn.Linear` stays: embeddings (and heads that are tied to them, which are
    the same tensor), convolutions, norms, biases; so do layers of fewer than SMALL outputs, and of int4 those whose
    inputs do not divide by GROUP or outputs by SMALL. The layers that stay are logged.

    Raises:
        UsageError: torchao is not installed, there is no such kind, or none on the device in this dtype.
    """

    def __init__(self, kind: Bits, device: str | torch.device, dtype: torch.dtype) -> None:
        if kind not in KINDS:
            raise UsageError(f"no weights of {kind!r}", hint=f"quantise is one of {', '.join(KINDS)}")
        try:
            import torchao  # noqa: F401
        except ImportError:
            raise UsageError(f"weights of {kind} need torchao", hint="pip install 'mmworld[quantise]'") from None
        type_ = torch.device(device).type
        if type_ not in ("cpu", "cuda"):
            raise UsageError(f"no weights of {kind} on {type_}", hint="on cpu or cuda")
        if (kind, type_) == ("int4", "cuda") and dtype != torch.bfloat16:
            raise UsageError(f"no weights of int4 in {str(dtype).removeprefix('torch.')} on CUDA", hint="in bfloat16")
        self.kind, self._rounded, self._stay = kind, 0, list[str]()

    def __call__(self, name: str, module: nn.Module) -> None:
        """Round the weight of the module `name`, if it is a layer that is rounded."""
        if type(module) is not nn.Linear:
            return
        if not fits(module, self.kind):
            self._stay.append(f"{name} {module.in_features} to {module.out_features}")
            return
        module.weight = nn.Parameter(_rounded(module.weight.detach(), self.kind), requires_grad=False)
        self._rounded += 1

    def tell(self, where: str) -> None:
        """Log how many layers are rounded, and which are not."""
        told = f"{where}: {self._rounded} linear layers in {self.kind}"
        if self._stay:
            log.warning(
                "%s; %d stay as they were, their widths do not fit: %s", told, len(self._stay), some(self._stay)
            )
        else:
            log.info("%s", told)


def fits(layer: nn.Linear, kind: Bits) -> bool:
    """Whether the layer's widths are such that it is rounded."""
    if kind == "int8":
        return layer.out_features >= SMALL
    return layer.in_features % GROUP == 0 and layer.out_features % SMALL == 0


def is_quantised(x: Tensor) -> bool:
    """Whether it is the rounded weight of a layer."""
    return type(x).__module__.startswith("torchao.")


def floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of int8 as the floats that they stand for.

    Raises:
        UsageError: there are weights of int4, which lie as their kernel reads them and are not given back.
    """
    if packed := [name for name, x in tensors.items() if _packed(x)]:
        raise UsageError(f"weights of int4 cannot be saved: {some(packed)}", hint="load the model without quantise")
    return {name: x.dequantize() if is_quantised(x) else x for name, x in tensors.items()}


def take(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a module that is trained around: floats are copied, weights of int8 are taken as they are.

    Raises:
        UsageError: there are weights of int4, through whose kernel no gradient comes.
    """
    if packed := [name for name, x in tensors.items() if _packed(x)]:
        raise UsageError(f"nothing can be trained around weights of int4: {some(packed)}", hint="int8 can")
    rounded = {name: x for name, x in tensors.items() if is_quantised(x)}
    module.load_state_dict({**tensors, **{n: x.dequantize() for n, x in rounded.items()}})
    module.load_state_dict(rounded, strict=False, assign=True)


def _trimmed(part: Any) -> Any:
    """The part, once the system has what malloc keeps of what was freed: holes of rounding add up to a whole model."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # of glibc
    return part


def _packed(x: Tensor) -> bool:
    return is_quantised(x) and hasattr(x, "scale_and_zero")


def _rounded(weight: Tensor, kind: Bits) -> Tensor:
    first, *rest = parts = [_trimmed(_part(rows, kind)) for rows in weight.split(ROWS)]
    if not rest:
        return first
    data = torch.cat([p.qdata for p in parts])
    if kind == "int4":
        steps = torch.cat([p.scale_and_zero for p in parts], 1)
        return type(first)(data, steps, first.block_size, weight.shape)
    scale, zero = (torch.cat([getattr(p, name) for p in parts]) for name in ("scale", "zero_point"))
    return type(first)(data, scale, first.block_size, weight.dtype, zero)


def _part(rows: Tensor, kind: Bits) -> Any:
    from torchao.quantization import Int4TilePackedTo4dTensor, Int8Tensor, PerRow

    if kind == "int8":
        return Int8Tensor.from_hp(rows, PerRow())
    if rows.is_cuda:
        return Int4TilePackedTo4dTensor.from_hp(rows, [1, GROUP])
    from torchao.prototype.quantization.int4 import Int4OpaqueTensor

    return Int4OpaqueTensor.from_hp(rows, [1, GROUP])
