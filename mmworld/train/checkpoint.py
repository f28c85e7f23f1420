"""Training checkpoints: safetensors named by the hash of their contents. Never a half file, never a wrong one."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from mmworld.errors import ResourceError

log = logging.getLogger(__name__)

KEPT = 2
Names = Mapping[nn.Parameter, str]
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.safetensors")


def write(folder: Path, step: int, tensors: dict[str, Tensor]) -> Path:
    """Save tensors as of `step`, then drop all but the newest KEPT checkpoints.

    Raises:
        ResourceError: the disk is full or the folder cannot be written; older checkpoints stay.
    """
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    path = folder / f"step-{step:08d}-{_digest(data)}.safetensors"
    part = folder / "checkpoint.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise ResourceError(
            f"{folder}: cannot save {len(data)} bytes: {e.strerror}", hint="resume goes on from the last"
        ) from e
    for old in found(folder)[:-KEPT]:
        old.unlink()
    return path


def found(folder: Path) -> list[Path]:
    """Checkpoints in the folder, oldest first."""
    return sorted(p for p in folder.glob("step-*.safetensors") if _NAME.fullmatch(p.name))


def newest(folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """Step and tensors of the newest checkpoint whose contents match its hash; damaged ones are named in the log."""
    for path in reversed(found(folder)):
        match = _NAME.fullmatch(path.name)
        data = path.read_bytes()
        if match and _digest(data) == match[2]:
            return int(match[1]), load(data)
        log.warning("%s: damaged, going back to the one before", path)
    return None


def steps_done(folder: Path) -> int:
    """As the name of the newest checkpoint says; 0 if there is none."""
    held = found(folder)
    return int(held[-1].name.split("-")[1]) if held else 0


def flatten(**groups: dict[str, Tensor]) -> dict[str, Tensor]:
    """{"a": {"x": t}} as {"a/x": t}."""
    return {f"{group}/{name}": tensor for group, named in groups.items() for name, tensor in named.items()}


def group(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """What `flatten` made of one group."""
    return {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}


def optimizer_tensors(optimizers: Sequence[Optimizer], names: Names) -> dict[str, Tensor]:
    """The state of each parameter, as "parameter/exp_avg" and so on."""
    return {f"{names[p]}/{k}": v for o in optimizers for p in _owned(o) for k, v in o.state[p].items()}


def restore_optimizers(optimizers: Sequence[Optimizer], names: Names, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    for optimizer in optimizers:
        for p in _owned(optimizer):
            state = {k: v.to(p.device) if k != "step" else v for k, v in group(tensors, names[p]).items()}
            if state:
                optimizer.state[p] = state


def _owned(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for g in optimizer.param_groups for p in g["params"]]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
