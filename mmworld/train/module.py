"""The training step, as a Lightning module over World."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmworld.errors import ResourceError
from mmworld.models.world import Item, Packed, World
from mmworld.train import checkpoint
from mmworld.train.batches import Example
from mmworld.train.recipe import Recipe

log = logging.getLogger(__name__)


class Captioning(LightningModule):
    """World learns to say an item's caption. Step k depends on the weights after step k - 1 and on (seed, k) alone.

    Attributes:
        done: steps done.
        average: exponential moving average of the weights.
        stop: asked after each step whether to stop there.
    """

    def __init__(self, world: World, recipe: Recipe, stop: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.world, self.recipe, self.stop = world, recipe, stop
        self.done = 0
        self.words = Words(recipe.world.backbone.dim, recipe.world.vocab)
        self.average = {k: v.detach().clone() for k, v in world.named_parameters()}
        self.optimizer = _optimizer(self, recipe)
        self.journal = Journal(Path(recipe.out) / "log.jsonl")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def transfer_batch_to_device(
        self, batch: list[Example], device: torch.device, dataloader_idx: int
    ) -> list[Example]:
        """As it is: encoders move what they need."""
        return batch

    def training_step(self, batch: list[Example], _: int) -> None:
        torch.manual_seed((self.recipe.seed << 32) + self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * schedule(self.done, self.recipe.warmup, self.recipe.steps)
        started = time.perf_counter()
        each, words, weights = losses(self.world, self.words, batch, self.recipe.label_smoothing)
        forward = time.perf_counter()
        self.optimizer.zero_grad()
        self.manual_backward((each * weights).sum() / weights.sum() + self.recipe.words * words.mean())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip)
        if torch.isfinite(norm) and torch.isfinite(each).all():
            self.optimizer.step()
            self._follow()
        else:
            self._refuse(batch)
        self.done += 1
        self.journal.add(batch, each.detach(), float(norm), forward - started, time.perf_counter() - forward)

    def on_train_batch_end(self, *_: Any) -> None:
        if self.done % self.recipe.log_every == 0:
            self.journal.write(self.done, self.optimizer.param_groups[0]["lr"])
        stopping = self.stop()
        if stopping or self.done % self.recipe.save_every == 0 or self.done == self.recipe.steps:
            self.save()
        if stopping:
            self.trainer.should_stop = True

    def save(self) -> None:
        names = {p: n for n, p in self.named_parameters()}
        tensors = checkpoint.flatten(
            model=dict(self.named_parameters()),
            average=self.average,
            optimizer=checkpoint.optimizer_tensors(self.optimizer, names),
        )
        checkpoint.write(Path(self.recipe.out), self.done, tensors)

    def resume(self) -> None:
        """Go on from the newest sound checkpoint of the run, if there is one."""
        if (held := checkpoint.newest(Path(self.recipe.out))) is None:
            return
        self.done, tensors = held
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(tensors[f"model/{name}"])
            for name, average in self.average.items():
                average.copy_(tensors[f"average/{name}"])
        names = {p: n for n, p in self.named_parameters()}
        checkpoint.restore_optimizer(self.optimizer, names, checkpoint.group(tensors, "optimizer"))
        log.info("going on from step %d", self.done)

    def _follow(self) -> None:
        """Move the average towards the weights; early on it forgets faster, or it would remember the start."""
        decay = min(self.recipe.ema, (1 + self.done) / (10 + self.done))
        parameters = [p.detach() for p in self.world.parameters()]
        torch._foreach_lerp_(list(self.average.values()), parameters, 1 - decay)

    def _refuse(self, batch: list[Example]) -> None:
        self.journal.note(skipped=self.done, sources=[e.source for e in batch], captions=[e.caption for e in batch])
        message = f"step {self.done}: loss or gradient is not finite"
        if self.recipe.on_nan == "stop":
            raise ResourceError(message, hint=f"the batch is in {self.journal.path}; try a lower learning_rate")
        log.warning("%s; the batch is skipped", message)


class Words(nn.Module):
    """The words of a caption, told from the mean of what the backbone is shown of an item; in training only.

    It gives the encoders a gradient from the first step, when the backbone does not look at them yet (bag of words:
    Joulin et al. 2016, section 3.2).
    """

    def __init__(self, dim: int, vocab: int) -> None:
        super().__init__()
        self.norm, self.score = nn.LayerNorm(dim), nn.Linear(dim, vocab)

    def forward(self, packed: Packed, items: Sequence[Item]) -> Tensor:
        """Cross-entropy of each item [len(items)] against its words in equal parts; 0 where nothing is perceived."""
        x, lengths = packed.x, torch.tensor(packed.lengths, device=packed.x.device)
        owner = torch.arange(len(items), device=x.device).repeat_interleave(lengths)
        seen = torch.ones(len(x), dtype=torch.bool, device=x.device)
        seen[packed.text] = False
        count = torch.bincount(owner[seen], minlength=len(items))
        mean = x.new_zeros(len(items), x.shape[1]).index_add(0, owner[seen], x[seen]) / count.clamp(min=1)[:, None]
        log_p = self.score(self.norm(mean)).log_softmax(-1)
        said = [sorted(set(i.ids[i.loss_from : -1])) for i in items]
        each = [-row[ids].mean() for row, ids in zip(log_p, said, strict=True)]
        return torch.stack(each) * (count > 0)


def losses(world: World, words: Words, batch: Sequence[Example], smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of each example: mean cross-entropy of its tokens, that of its words, and its weight, the root of its length."""
    items = [e.item for e in batch]
    packed = world.pack([i.chunks for i in items], [i.ids[:-1] for i in items])
    token = F.cross_entropy(world.predict(packed), world.targets(items), reduction="none", label_smoothing=smoothing)
    lengths = torch.tensor([len(i.ids) - 1 for i in items], device=token.device)
    owner = torch.arange(len(items), device=token.device).repeat_interleave(lengths)
    mean = token.new_zeros(len(items)).index_add(0, owner, token) / lengths
    return mean, words(packed, items), lengths.sqrt()


def schedule(step: int, warmup: int, steps: int) -> float:
    """Share of the peak learning rate: a linear rise, then half a cosine (Loshchilov & Hutter 2017)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


class Journal:
    """One JSON line every so many steps: mean loss a source, items a second, where the time went."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, list[float]] = defaultdict(list)
        self._norms: list[float] = []
        self._forward = self._backward = 0.0
        self._since = time.perf_counter()

    def add(self, batch: list[Example], each: Tensor, norm: float, forward: float, backward: float) -> None:
        for example, loss in zip(batch, each.tolist(), strict=True):
            self._sums[example.source].append(loss)
        self._norms.append(norm)
        self._forward += forward
        self._backward += backward

    def write(self, step: int, rate: float) -> None:
        seconds = time.perf_counter() - self._since
        items = sum(map(len, self._sums.values()))
        means = {k: round(sum(v) / len(v), 4) for k, v in sorted(self._sums.items())}
        self.note(
            step=step,
            loss=round(sum(map(sum, self._sums.values())) / items, 4),
            sources=means,
            items_per_second=round(items / seconds, 2),
            forward=round(self._forward / seconds, 3),
            backward=round(self._backward / seconds, 3),
            gradient=round(sum(self._norms) / len(self._norms), 3),
            learning_rate=rate,
        )
        self._reset()

    def note(self, **fields: Any) -> None:
        line = json.dumps(fields)
        log.info("%s", line)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(line + "\n")
