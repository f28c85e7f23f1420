"""Models by name or folder: config.yaml, model.safetensors, tokenizer.json."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from mmworld import config
from mmworld.errors import CheckpointError, ConfigError
from mmworld.models.world import CONFIG, SIGHT, TOKENIZER, WEIGHTS, World, WorldConfig
from mmworld.text.tokenizer import Tokenizer
from mmworld.weights.checkpoint import load_safetensors, read_header
from mmworld.weights.keymap import load_into

SHIPPED = {"nano": Path(__file__).parent / "nano"}
"""Models that are part of the package."""
SPARE = 1 << 22
"""Numbers that a model may hold beside its weights (tables, filters)."""
_RANDOM = {torch.rand, torch.randn}
_FACTORIES = _RANDOM | {torch.empty, torch.zeros, torch.ones, torch.full}


def load(name: str | os.PathLike[str], device: str | torch.device = "cpu") -> World:
    """The model `name`, of the package or of a folder that `World.save` wrote, ready to caption.

    Raises:
        CheckpointError: there is no such model, or its files are damaged, foreign or do not fit together.
    """
    folder = find(name)
    if missing := [n for n in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / n).is_file()]:
        raise CheckpointError(f"{folder}: no model, it lacks {', '.join(missing)}")
    header = read_header(folder / WEIGHTS)
    numbers = sum(math.prod(t["shape"]) for n, t in header.items() if n != "__metadata__")
    world = _build(folder, numbers + SPARE)
    load_into(world, load_safetensors(folder / WEIGHTS), where=str(folder / WEIGHTS))
    if (folder / SIGHT).is_file():
        world.sight = _sight(folder / SIGHT, world.config.backbone.dim)
    return world.to(device).eval().requires_grad_(False)


def find(name: str | os.PathLike[str]) -> Path:
    """The folder of the model `name`; CheckpointError, with the nearest names, if there is none."""
    folder = SHIPPED.get(str(name), Path(name))
    if folder.is_dir():
        return folder
    if str(name) in SHIPPED:
        raise CheckpointError(f"the model {name!r} is not part of this installation: no folder {folder}")
    near = difflib.get_close_matches(str(name), SHIPPED, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"a folder, or one of: {', '.join(SHIPPED)}"
    raise CheckpointError(f"no model {str(name)!r}", hint=hint)


def _sight(path: Path, dim: int) -> torch.Tensor:
    found = load_safetensors(path).get("sight")
    if found is None or found.shape != (dim + 1, dim) or not found.isfinite().all():
        raise CheckpointError(f"{path}: holds no sight of a model {dim} wide", hint="remove the file to do without")
    return found.float()


def _build(folder: Path, budget: int) -> World:
    tokenizer = Tokenizer.load(folder / TOKENIZER)
    try:
        with _Construction(budget):
            return World(config.load(WorldConfig, folder / CONFIG), tokenizer)
    except ConfigError as e:
        raise CheckpointError(str(e)) from None
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as e:
        raise CheckpointError(f"{folder / CONFIG}: no model can be built from it: {e}") from None


class _Construction(TorchFunctionMode):
    """Modules are built without random numbers, which the weights would overwrite, and not beyond `budget` numbers:
    a config may not ask for more memory than its weights fill."""

    def __init__(self, budget: int) -> None:
        super().__init__()
        self._budget = budget

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        if func in _FACTORIES:
            self._spend(args, kwargs)
            func = torch.empty if func in _RANDOM else func
        return func(*args, **kwargs)

    def _spend(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        size = kwargs.get("size", args[0] if args and isinstance(args[0], tuple | list) else args)
        self._budget -= math.prod(n for n in size if isinstance(n, int)) if isinstance(size, tuple | list) else size
        if self._budget < 0:
            raise CheckpointError("the config asks for a larger model than the weights fill")
