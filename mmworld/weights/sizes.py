"""The sizes in a checkpoint's config.json: what is beyond them is refused before anything is built."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import Field

from mmworld.nn.layer import TransformerConfig

Depth = Annotated[int, Field(gt=0, le=1024)]
"""Layers."""
Width = Annotated[int, Field(gt=0, le=1 << 20)]
"""Channels, heads, ids, positions."""
_OURS: dict[str, Any] = {"gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_new": "gelu_tanh"}
"""Activations that have another name here."""


class Sized(Protocol):
    """A config with the names that most of transformers' have."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def hidden_act(self) -> Any: ...
    @property
    def layer_norm_eps(self) -> float: ...


def standard(c: Sized, **changes: Any) -> TransformerConfig:
    """The transformer that a config of those names asks for, with changes to what it does not say."""
    return TransformerConfig(
        c.hidden_size,
        c.num_hidden_layers,
        c.num_attention_heads,
        hidden=c.intermediate_size,
        norm_eps=c.layer_norm_eps,
        activation=_OURS.get(c.hidden_act, c.hidden_act),
        **changes,
    )
