"""Text from a backbone that has seen its input: one id a step for every row of a batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from mmworld.attention import Mask
from mmworld.errors import out_of_memory
from mmworld.generate.beam import Beam
from mmworld.generate.rules import Prefix, ruled, stuck
from mmworld.generate.samplers import GREEDY, Sampler
from mmworld.generate.speaker import Speaker, Vocabulary, Writer
from mmworld.generate.stop import STOP, Stop
from mmworld.models.world import Item, World
from mmworld.nn.state import KVState
from mmworld.nn.streams import Streams

T = TypeVar("T")
Group = tuple[list[int], KVState, Tensor]
"""Indices, and for each of them a row of a state and of the logits [B, V] that predict its first id."""


@dataclass(frozen=True)
class Generation:
    """A text that the model made.

    Attributes:
        ids: without <eos>.
        score: mean log-probability of its ids, <eos> too, before any rule or temperature; of a beam, after its
            rules.
    """

    text: str
    ids: tuple[int, ...]
    score: float


@dataclass
class Row:
    """A text on its way: its ids, <eos> too, and their log-probabilities; and the ids of its prompt."""

    given: Sequence[int] = ()
    ids: list[int] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)

    def finish(self, tokenizer: Vocabulary, stop: Stop) -> Generation:
        ids = tuple(i for i in self.ids if i not in tokenizer.ends)
        text = tokenizer.decode(ids)
        kept = stop.cut(text)
        score = sum(self.log_p) / max(1, len(self.log_p))
        return Generation((text if kept is None else kept).strip(), ids, score)


def steps(
    model: Speaker,
    state: KVState,
    logits: Tensor,
    pick: Sampler,
    stop: Stop,
    given: Sequence[Sequence[int]] | None = None,
) -> Iterator[list[Row]]:
    """Grow one text for each row of `state` and of `logits` [B, V]; yields all of them after each step.

    The state is used up. A finished row leaves the batch and costs nothing more. Arguments and errors as of `decode`.
    """
    rows = [Row(ids) for ids in given or [()] * len(logits)]
    growing, choose, tokenizer = list(rows), pick.start(), model.tokenizer
    for step in range(stop.max_tokens):
        scores = ruled(pick.rules, [Prefix(row.given, row.ids) for row in growing], logits)
        if pick.rules and bool((scores.amax(-1) == -torch.inf).any()):
            raise stuck()
        ids = choose(scores)
        log_p = logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        for row, i, p in zip(growing, ids.tolist(), log_p.tolist(), strict=True):
            row.ids.append(i)
            row.log_p.append(p)
        yield rows
        alive = [n for n, row in enumerate(growing) if not _ended(row, tokenizer, stop)]
        if not alive or step == stop.max_tokens - 1:
            return
        if len(alive) < len(growing):
            keep = torch.tensor(alive, device=ids.device)
            ids, growing = ids[keep], [growing[n] for n in alive]
            state.select(keep)
        logits = model.read(ids[:, None], state)


@torch.no_grad()
def decode(
    model: Speaker,
    state: KVState,
    logits: Tensor,
    sampler: Sampler | Beam = GREEDY,
    stop: Stop = STOP,
    given: Sequence[Sequence[int]] | None = None,
) -> list[Generation]:
    """One text for each row of `state`, which has read all that comes before; `logits` [B, V] predict the first id.

    Args:
        given: ids of each row's prompt, for rules that look at it.

    Raises:
        UsageError: the sampler's rules leave no id to go on with.
    """
    if isinstance(sampler, Beam):
        found = sampler.search(model.read, state, logits, model.tokenizer.ends, stop.max_tokens, given)
        return [Row((), ids, log_p).finish(model.tokenizer, stop) for ids, log_p in found]
    *_, rows = steps(model, state, logits, sampler, stop, given)
    return [row.finish(model.tokenizer, stop) for row in rows]


@torch.no_grad()
def complete(
    model: Writer, prompts: Sequence[Sequence[int]], sampler: Sampler | Beam = GREEDY, stop: Stop = STOP
) -> list[Generation]:
    """How the model goes on with each prompt's ids, all side by side: prompts of one length are read together, and
    texts of any lengths go on together, without padding."""

    def begun(prompts: Sequence[Sequence[int]]) -> Iterator[Group]:
        groups: list[Group] = []
        for members in alike(map(len, prompts)):
            state = model.init_state()
            groups.append((members, state, model.read(torch.tensor([prompts[i] for i in members]), state)))
        if len(groups) > 1:
            whole = [i for members, *_ in groups for i in members]
            streams = Streams([one for _, state, _ in groups for one in state.apart()])
            groups = [(whole, streams, torch.cat([logits for *_, logits in groups]))]
        yield from groups

    return _halved(prompts, lambda some: _decoded(model, begun(some), sampler, stop, some))


@torch.no_grad()
def answer(
    world: World,
    contexts: Sequence[KVState],
    prompt: str = "",
    sampler: Sampler | Beam = GREEDY,
    stop: Stop = STOP,
) -> list[Generation]:
    """What the model says of each context, whatever its shape, side by side. The contexts stay as they are.

    Contexts that the memory does not hold at once are tried again in two halves.
    """

    def asked(contexts: Sequence[KVState]) -> Iterator[Group]:
        for members in alike(c.compact for c in contexts):
            yield members, *ask(world, [contexts[i] for i in members], prompt)

    given = world.prompt(prompt)
    return _halved(contexts, lambda some: _decoded(world, asked(some), sampler, stop, [given] * len(some)))


@torch.no_grad()
def ask(world: World, contexts: Sequence[KVState], prompt: str = "") -> tuple[KVState, Tensor]:
    """Contexts, all compact or none, as the rows of a state that has read the prompt, and the logits [B, V] of what
    follows."""
    alone = [c.fork() for c in contexts]
    for one in alone:
        one.unbind()  # what is said must not push out what it is said of
    state = KVState.stack(alone) if len({c.shape for c in alone}) == 1 else Streams(alone)
    return state, world.read(torch.tensor([world.prompt(prompt)] * len(contexts)), state)


@torch.no_grad()
def generate_many(
    world: World,
    items: Sequence[Item],
    sampler: Sampler | Beam = GREEDY,
    stop: Stop = STOP,
    *,
    batch: int = 128,
) -> list[Generation]:
    """A text for each item, after its given ids (those before `loss_from`; the rest is not looked at).

    `batch` items are encoded in one packed pass; those whose blocks have the same sizes then go through the backbone
    side by side, so nothing is padded. A batch that the memory does not hold is tried again in two halves.
    """

    def generate(items: Sequence[Item]) -> list[Generation]:
        return _decoded(world, prefill(world, items), sampler, stop, [i.ids[: i.loss_from] for i in items])

    return [made for at in range(0, len(items), batch) for made in _halved(items[at : at + batch], generate)]


def _halved(batch: Sequence[T], generate: Callable[[Sequence[T]], list[Generation]]) -> list[Generation]:
    """`generate` of the batch, or of its two halves if the memory does not hold it."""
    half = len(batch) // 2
    try:
        return generate(batch)
    except (MemoryError, RuntimeError) as e:
        if not half or not out_of_memory(e):
            raise
    # Not within the `except`: until it ends, the failed try keeps what it held.
    return generate(batch[:half]) + generate(batch[half:])


def _decoded(
    model: Speaker, groups: Iterable[Group], sampler: Sampler | Beam, stop: Stop, given: Sequence[Sequence[int]]
) -> list[Generation]:
    """The texts of all groups, in the order of their members' indices, which are those of what is given, too."""
    out: dict[int, Generation] = {}
    for members, state, logits in groups:
        out.update(zip(members, decode(model, state, logits, sampler, stop, [given[i] for i in members]), strict=True))
    return [out[i] for i in sorted(out)]


def alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """The indices of equal keys together, in the order in which the keys first come."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        members[key].append(i)
    return list(members.values())


def prefill(world: World, items: Sequence[Item]) -> Iterator[Group]:
    """Read each item up to its `loss_from`. Those whose blocks have the same sizes come together: their indices, their
    state, and the logits [B, V] of the id that comes next."""
    packed = world.pack([i.chunks for i in items], [i.ids[: i.loss_from] for i in items])
    rows = packed.x.split(packed.lengths)
    for members in alike(packed.blocks):
        state = KVState()
        y = world.backbone(torch.stack([rows[i] for i in members]), Mask("blocks", packed.blocks[members[0]]), state)
        yield members, state, world.logits(y[:, -1])


def stream(
    model: Speaker,
    state: KVState,
    logits: Tensor,
    sampler: Sampler = GREEDY,
    stop: Stop = STOP,
    given: Sequence[Sequence[int]] | None = None,
) -> Iterator[str]:
    """The text of `decode` of one row, piece by piece as it is made; arguments and errors as there."""
    ends = model.tokenizer.ends
    grown = (rows[0].ids for rows in steps(model, state, logits, sampler, stop, given))
    return pieces(model.tokenizer, ([i for i in ids if i not in ends] for ids in grown))


def pieces(tokenizer: Vocabulary, texts: Iterable[Sequence[int]]) -> Iterator[str]:
    """What each longer version of a text adds to the one before, characters never cut in two."""
    shown = text = ""
    for ids in texts:
        text = tokenizer.decode(ids)
        if not text.endswith("�") and len(text) > len(shown):
            yield text[len(shown) :]
            shown = text
    if text != shown:
        yield text[len(shown) :]


def after(prompt: str, text: str) -> str:
    """A prompt and the words that followed it as one text."""
    return f"{prompt}{text}" if not prompt or text[:1] in (*",.;:!?'", "") else f"{prompt} {text}"


def _ended(row: Row, tokenizer: Vocabulary, stop: Stop) -> bool:
    if row.ids[-1] in tokenizer.ends:
        return True
    return bool(stop.texts) and stop.cut(tokenizer.decode(row.ids)) is not None
