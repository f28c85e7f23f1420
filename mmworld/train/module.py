"""The training step, as a Lightning module over World."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import multiprocessing.util
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from mmworld.errors import ResourceError
from mmworld.models.world import Item, Packed, World
from mmworld.train import checkpoint
from mmworld.train.batches import Batches, Example, Stretch, loader, outlive
from mmworld.train.muon import Muon
from mmworld.train.recipe import Recipe

log = logging.getLogger(__name__)


class Captioning(LightningModule):
    """World learns to say an item's caption. Step k depends on the weights after step k - 1 and on (seed, k) alone.

    Attributes:
        done: steps done.
        average: exponential moving average of the weights.
        stop: asked after each step whether to stop there; processes stop together once one is told to.
    """

    def __init__(self, world: World, recipe: Recipe, batches: Batches, stop: Callable[[], bool]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.world, self.recipe, self.batches, self.stop = world, recipe, batches, stop
        self.done = 0
        self.words = Words(world.config.backbone.dim, world.config.vocab)
        self.average = {k: v.detach().clone() for k, v in world.named_parameters()}
        self.steppers = _optimizers(self.world, self.words, recipe)
        self.journal = Journal(Path(recipe.out) / "log.jsonl")

    def configure_optimizers(self) -> list[Optimizer]:
        return self.steppers

    def train_dataloader(self) -> DataLoader[list[Example]]:
        """What is left of this process's part of the run."""
        ranks = self.trainer.world_size
        return loader(Stretch(self.batches, self.done, self.recipe.steps, self.global_rank, ranks))

    def transfer_batch_to_device(
        self, batch: list[Example], device: torch.device, dataloader_idx: int
    ) -> list[Example]:
        """As it is: encoders move what they need."""
        return batch

    def on_train_start(self) -> None:
        """One of several processes leaves signals to the one that started the run: Lightning's handler, set just before
        this, would talk to the others in the middle of a step."""
        if multiprocessing.parent_process():
            multiprocessing.util.Finalize(None, _kill_daemons, exitpriority=0)
            if self.trainer.world_size > 1:
                outlive()

    def training_step(self, batch: list[Example], _: int) -> None:
        torch.manual_seed((self.recipe.seed << 40) + (self.done << 8) + self.global_rank)
        rate = self.recipe.learning_rate * schedule(self.done, self.recipe)
        for group in (g for o in self.steppers for g in o.param_groups):
            group["lr"] = rate
        started = time.perf_counter()
        each, words, weights = losses(self.world, self.words, batch, self.recipe.label_smoothing)
        forward = time.perf_counter()
        self.zero_grad()
        self.manual_backward(((each + self.recipe.words * words) * weights).sum() / weights.sum())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.recipe.clip)
        if not self._any(not (torch.isfinite(norm) and torch.isfinite(each).all())):
            for optimizer in self.steppers:
                optimizer.step()
            self._follow()
        else:
            self._refuse(batch)
        self.done += 1
        self.journal.add(batch, each.detach(), float(norm), forward - started, time.perf_counter() - forward)

    def on_train_batch_end(self, *_: Any) -> None:
        first = self.global_rank == 0
        if first and self.done % self.recipe.log_every == 0:
            self.journal.write(self.done, self.steppers[0].param_groups[0]["lr"])
        stopping = self._any(self.stop())
        if first and (stopping or self.done % self.recipe.save_every == 0 or self.done == self.recipe.steps):
            self.save()
        if stopping:
            self.trainer.should_stop = True

    def save(self) -> None:
        names = {p: n for n, p in self.named_parameters()}
        tensors = checkpoint.flatten(
            model=dict(self.named_parameters()),
            average=self.average,
            optimizer=checkpoint.optimizer_tensors(self.steppers, names),
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
        checkpoint.restore_optimizers(self.steppers, names, checkpoint.group(tensors, "optimizer"))
        log.info("going on from step %d", self.done)

    def _any(self, here: bool) -> bool:
        """Whether it is so in any of the processes, which thus decide alike."""
        return bool(self.trainer.strategy.reduce(torch.tensor(float(here), device=self.device), reduce_op="sum") > 0)

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


def _kill_daemons() -> None:
    """A process that another one started asks its daemons to end, then waits; that of the batches would ignore it."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class Words(nn.Module):
    """The words of a caption, told from what the backbone is shown of an item; in training only.

    It gives the encoders a gradient from the first step, when the backbone does not look at them yet. Each token gives
    every word a probability; an item's is the mean over its tokens, so that each may answer for other words (multiple
    instances: Maron & Lozano-Perez 1998).
    """

    def __init__(self, dim: int, vocab: int) -> None:
        super().__init__()
        self.norm, self.score = nn.LayerNorm(dim), nn.Linear(dim, vocab)

    def forward(self, packed: Packed, items: Sequence[Item]) -> Tensor:
        """Cross-entropy of each item [len(items)] against its words in equal parts; 0 where nothing is perceived."""
        seen = torch.ones(len(packed.x), dtype=torch.bool, device=packed.x.device)
        seen[packed.text] = False
        log_p = self.score(self.norm(packed.x[seen])).log_softmax(-1)
        parts = log_p.split([n - len(i.ids) + 1 for n, i in zip(packed.lengths, items, strict=True)])
        return torch.stack([_missed(p, i) for p, i in zip(parts, items, strict=True)])


def _missed(log_p: Tensor, item: Item) -> Tensor:
    """Mean cross-entropy of the item's words under the mean distribution of its tokens [tokens, V]."""
    if not len(log_p):
        return log_p.new_zeros(())
    words = sorted(set(item.ids[item.loss_from : -1]))
    return math.log(len(log_p)) - log_p[:, words].logsumexp(0).mean()


def losses(world: World, words: Words, batch: Sequence[Example], smoothing: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of each example: mean cross-entropy of its tokens, that of its words, and its weight."""
    items = [e.item for e in batch]
    packed = world.pack([i.chunks for i in items], [i.ids[:-1] for i in items])
    token = F.cross_entropy(world.predict(packed), world.targets(items), reduction="none", label_smoothing=smoothing)
    lengths = torch.tensor([len(i.ids) - 1 for i in items], device=token.device)
    owner = torch.arange(len(items), device=token.device).repeat_interleave(lengths)
    mean = token.new_zeros(len(items)).index_add(0, owner, token) / lengths
    return mean, words(packed, items), token.new_tensor([e.weight for e in batch])


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate: a linear rise, level, and a fall of 1 - sqrt (Hägele et al. 2024, section 3)."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    return 1 - math.sqrt(max(step - recipe.level_until, 0) / max(recipe.steps - recipe.level_until, 1))


def _optimizers(world: World, words: Words, recipe: Recipe) -> list[Optimizer]:
    """Muon for the weights of layers; AdamW for tables, norms and biases, and for the head that training alone has."""
    kinds = nn.Linear, nn.Conv1d, nn.Conv2d
    layers = [p for m in world.modules() if isinstance(m, kinds) for n, p in m.named_parameters() if n == "weight"]
    ids = {id(p) for p in layers}
    others = [p for p in (*world.parameters(), *words.parameters()) if id(p) not in ids]
    decayed = {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay}
    free = {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0}
    return [
        Muon(layers, recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW([decayed, free], lr=recipe.learning_rate, betas=(0.9, 0.98)),
    ]


class Journal:
    """One JSON line every so many steps: mean loss a source, items a second, where the time went; of one process."""

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
