"""Weights in ONNX files: tensors by name; nothing of the graph is run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmworld.errors import CheckpointError, UsageError

MAX_BYTES = 1 << 30
TYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}
"""Of weights, by their numbers in the format; whole numbers are of the graph."""
_OPTIONAL, _REPEATED = 1, 3
_INT64, _INT32, _STRING, _MESSAGE, _BYTES = 3, 5, 9, 11, 12
_SCHEMA: dict[str, tuple[tuple[str, int, int, int, str], ...]] = {
    "Model": (("graph", 7, _OPTIONAL, _MESSAGE, "Graph"),),
    "Graph": (("node", 1, _REPEATED, _MESSAGE, "Node"), ("initializer", 5, _REPEATED, _MESSAGE, "Tensor")),
    "Node": (("output", 2, _REPEATED, _STRING, ""), ("attribute", 5, _REPEATED, _MESSAGE, "Attribute")),
    "Attribute": (("t", 5, _OPTIONAL, _MESSAGE, "Tensor"), ("g", 6, _OPTIONAL, _MESSAGE, "Graph")),
    "Tensor": (
        ("dims", 1, _REPEATED, _INT64, ""),
        ("data_type", 2, _OPTIONAL, _INT32, ""),
        ("name", 8, _OPTIONAL, _STRING, ""),
        ("raw_data", 9, _OPTIONAL, _BYTES, ""),
    ),
}
"""The part of onnx.proto that holds tensors: name, number, label, type and kind of each field."""


def read(path: Path | str) -> dict[str, Tensor]:
    """The floating-point tensors of a model by name: initializers, and constants by the name of what they give, those
    in branches too.

    Raises:
        UsageError: protobuf is not installed.
        CheckpointError: the file is missing, too large or damaged, or keeps tensors in another way than as raw bytes.
    """
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise CheckpointError(f"{path}: {size} bytes, the limit is {MAX_BYTES}")
        data = path.read_bytes()
    except OSError as e:
        raise CheckpointError(f"{path}: {e.strerror}") from None
    model = _model()
    try:
        model.ParseFromString(data)
    except Exception as e:  # DecodeError, of several modules
        raise CheckpointError(f"{path}: no ONNX model: {e}") from None
    found: dict[str, Tensor] = {}
    for name, held in _held(model.graph):
        if name in found:
            raise CheckpointError(f"{path}: {name!r} is there twice")
        if held.data_type in TYPES:
            found[name] = _tensor(held, f"{path}: {name}")
    if not found:
        raise CheckpointError(f"{path}: no ONNX model with weights")
    return found


def _held(graph: Any) -> Iterator[tuple[str, Any]]:
    """All tensors of a graph and of the graphs within it."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and node.output:
                yield node.output[0], attribute.t
            if attribute.HasField("g"):
                yield from _held(attribute.g)


def _tensor(held: Any, where: str) -> Tensor:
    dtype, shape = TYPES[held.data_type], tuple(held.dims)
    if min(shape, default=0) < 0 or len(held.raw_data) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{where}: {len(held.raw_data)} bytes do not fill {list(shape)}")
    data = bytearray(held.raw_data)
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).view(shape)


def _model() -> Any:
    return _class()()


@lru_cache(maxsize=1)
def _class() -> Any:
    """The class of messages that hold a model."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise UsageError("ONNX files need protobuf", hint="pip install 'mmworld[onnx]'") from None
    file = descriptor_pb2.FileDescriptorProto(name="mmworld/onnx.proto", package="mmworld.onnx", syntax="proto2")
    for message, fields in _SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, label, kind, of in fields:
            field = made.field.add(name=name, number=number, label=label, type=kind)
            if of:
                field.type_name = f".mmworld.onnx.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mmworld.onnx.Model"))
