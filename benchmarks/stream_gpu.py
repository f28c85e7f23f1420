"""A Qwen2.5-VL of 7B that watches without end on one GPU: frames a second, the price of age, and many streams at once.

    python benchmarks/stream_gpu.py [--hours 8] [--streams 16] [--seconds 60] [--json FILE]
    python benchmarks/stream_gpu.py --tiny --device cpu --hours 0.02 --streams 2 --seconds 8

The weights are random, made on the device in bfloat16: nothing is downloaded, and what is computed takes as long.
Frames are of 360 x 640 pixels, two of them a glimpse of 299 tokens. What is held is `Keep(30)`: 30 glimpses of one
second, 512 ids of text, the opening of the chat. What a model of random weights says is no text, so after each caption,
`--tokens` ids long, a sentence of as many is committed. Three things are measured:

sustained   one stream as fast as it goes, a caption every `--every` of its seconds: frames a second, all included
            (StreamingVLM, Xu et al. 2025: 8 on an H100), and milliseconds of a glimpse and of a token.
age         milliseconds a token after --hours of a stream, over those after its first minute. Between the two, a
            glimpse comes every --pace seconds. A copy of the stream as it was at minute 1 is asked in turn with it, so
            that a busy machine is busy for both.
streams     --streams of one frame a second and a caption every `--every` seconds, out of step. Glimpses are read one
            by one, the oldest first; captions that are due are decoded side by side, step by step. The clock is
            simulated, what each call takes is measured: lag is from when a glimpse was there to when it was read, and
            from when a caption was due to when it was said and committed.

Without a GPU it says so and is done, unless told --device cpu.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from figures import in_turn, write
from tokenizers import decoders, models, pre_tokenizers

from mmworld.generate.stop import Stop
from mmworld.models.keep import Keep
from mmworld.models.talk import Talk, tell
from mmworld.models.zoo.qwen_vl import QwenVL
from mmworld.text.chat import Chat
from mmworld.text.pretrained import Pretrained
from mmworld.types import Chunk
from mmworld.vision.budget import FilmBudget

MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = """{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ m.role }}
{% for p in m.content %}{{ p.text if p.type == 'text' else '<|vision_start|><|video_pad|><|vision_end|>' }}\
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""As Qwen2.5-VL's files have it, as far as it is used."""
TEXT_7B = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28}
TEXT_7B |= {"num_key_value_heads": 4, "vocab_size": 152_064}
SEEN_7B: dict[str, Any] = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
SEEN_7B |= {"out_hidden_size": 3584, "tokens_per_second": 2}
TEXT_TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT_TINY |= {"num_key_value_heads": 2, "vocab_size": 320}
SEEN_TINY = {**SEEN_7B, "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
SIDES = {False: (360, 640), True: (56, 84)}
TOGETHER = 2
"""Frames of a glimpse, which is a second of one stream and two seconds of many."""
ASKED = 9
"""Times that each is asked, of which the median counts."""

GOALS = {"sustained": "16 frames a second", "streams": "p95 below 1 s", "age": "a ratio of 0.95 to 1.05"}


def vocabulary() -> Pretrained:
    """Bytes and Qwen's marks; nothing ends a text, so all are of one length."""
    alphabet = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    core = tokenizers.Tokenizer(models.BPE(alphabet, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(MARKS))
    return Pretrained(core, frozenset(), {}, Chat(TEMPLATE))


def made(tiny: bool, device: str, dtype: torch.dtype) -> QwenVL:
    """The model, its weights drawn where it is."""
    tokenizer, text = vocabulary(), TEXT_TINY if tiny else TEXT_7B
    turning = {"rope_theta": 1e6, "mrope_section": [2, 3, 3] if tiny else [16, 24, 24]}
    said: dict[str, Any] = {"model_type": "qwen2_5_vl", "text_config": {**text, "rope_parameters": turning}}
    said |= {"vision_config": SEEN_TINY if tiny else SEEN_7B}
    said |= {f"{kind}_token_id": tokenizer.id(f"<|{kind}_pad|>") for kind in ("image", "video")}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = QwenVL(said)
    finally:
        torch.set_default_dtype(before)
    model.tokenizer, model.processors = tokenizer, {"video": FilmBudget(28 * 28 if tiny else 28 * 28 * 128)}
    return model.eval().requires_grad_(False)


class Watched:
    """Streams of one film, and what is done with them, timed.

    Args:
        tokens: of a caption.
        side: height and width of a frame.
    """

    def __init__(self, model: QwenVL, tokens: int, side: tuple[int, int]) -> None:
        self.model, self.stop = model, Stop(tokens)
        self.on_cuda = next(model.parameters()).is_cuda
        self.sentence = "x" * tokens  # an id for each byte
        shape = (16 * TOGETHER, 3, *side)
        self.film = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def talk(self) -> Talk:
        return Talk(self.model, Keep(30.0))

    def show(self, talk: Talk, n: int) -> None:
        """Glimpse n of the film, which begins anew when it ends."""
        first = TOGETHER * (n % 16)
        frames = [self.film[first + i : first + i + 1] for i in range(TOGETHER)]
        talk.show([Chunk(f, n + i / TOGETHER, n + (i + 1) / TOGETHER, "video") for i, f in enumerate(frames)])

    def caption(self, talks: list[Talk]) -> None:
        tell(talks, stop=self.stop)
        for talk in talks:
            talk.commit(self.sentence)

    def seconds(self, run: Callable[[], object]) -> float:
        """What it takes, until the device is done."""
        self.wait()
        begun = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - begun

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize()


def sustained(watched: Watched, seconds: int, every: int) -> dict[str, float]:
    """One stream as fast as it goes, once it holds all that it ever will."""
    talk, seen, said = watched.talk(), [], []
    for n in range(40 + seconds):
        took = watched.seconds(lambda n=n: watched.show(talk, n))
        spoke = watched.seconds(lambda: watched.caption([talk])) if n % every == every - 1 else None
        if n >= 40:
            seen.append(took)
            said += [] if spoke is None else [spoke]
    tokens = len(said) * watched.stop.max_tokens
    return {
        "frames_a_second": round(TOGETHER * seconds / (sum(seen) + sum(said)), 2),
        "glimpse_ms": round(1000 * statistics.median(seen), 2),
        "caption_ms_a_token": round(1000 * sum(said) / max(1, tokens), 2),
        "state_bytes": talk.nbytes,
        "ids_held": len(talk.context),
    }


def age(watched: Watched, hours: float, pace: int, every: int) -> dict[str, float]:
    """A stream after so many hours beside itself at minute 1."""
    talk = watched.talk()

    def minute(first: int) -> None:
        for n in range(first, first + 60):
            watched.show(talk, n)
            if n % every == every - 1:
                watched.caption([talk])

    minute(0)
    young, end = talk.fork(), round(3600 * hours)
    for n in range(60, end - 60, pace):
        watched.show(talk, n)
        if (n // pace) % (10 * every) == 0:
            watched.caption([talk])
    minute(max(60, end - 60))

    def ask(which: Talk) -> Callable[[], object]:
        return lambda: (tell([which], stop=watched.stop), watched.wait())

    runs = {"minute_1": ask(young), "last": ask(talk)}
    in_turn(runs, 2)  # warm
    taken = {name: 1000 * statistics.median(s) / watched.stop.max_tokens for name, s in in_turn(runs, ASKED).items()}
    return {
        "hours": hours,
        **{f"{name}_ms_a_token": round(ms, 3) for name, ms in taken.items()},
        "ratio": round(taken["last"] / taken["minute_1"], 4),
        "ids_held": [len(young.context), len(talk.context)],
        "last_position": [young.context.end, talk.context.end],
    }


def many(watched: Watched, streams: int, seconds: int, every: int) -> dict[str, float]:
    """Streams of a frame a second, out of step, on a simulated clock; the first half minute only fills them."""
    talks = [watched.talk() for _ in range(streams)]
    for talk in talks:
        for n in range(30):
            watched.show(talk, n)
    offset = [i / streams for i in range(streams)]
    glimpses = deque(
        sorted((TOGETHER * (k + 1) + offset[i], i, k) for i in range(streams) for k in range(seconds // TOGETHER))
    )
    captions = deque(sorted((every * (k + 1) + offset[i], i) for i in range(streams) for k in range(seconds // every)))
    now, busy, read, said = 0.0, 0.0, [], []
    while glimpses or captions:
        now = max(now, min(queue[0][0] for queue in (glimpses, captions) if queue))
        if glimpses and glimpses[0][0] <= now and not (captions and captions[0][0] < glimpses[0][0]):
            there, i, k = glimpses.popleft()
            took = watched.seconds(lambda i=i, k=k: watched.show(talks[i], 30 + k))
            read.append(now + took - there)
        else:
            due = [captions.popleft() for _ in range(len(captions)) if captions[0][0] <= now]
            took = watched.seconds(
                lambda due=due: watched.caption([talks[i] for i in dict.fromkeys(j for _, j in due)])
            )
            said += [now + took - t for t, _ in due]
        now, busy = now + took, busy + took
    return {
        "streams": streams,
        "glimpse_lag_p95": _p95(read),
        "caption_lag_p95": _p95(said),
        "busy": round(busy / now, 3),
    }


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return round(ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)], 4) if ordered else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a toy in float32: it runs the code, its figures mean nothing"
    )
    parser.add_argument("--seconds", type=int, default=60, help="of the streams that are timed as a whole")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--pace", type=int, default=8, help="seconds between glimpses while hours go by")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--every", type=int, default=5, help="seconds between captions")
    parser.add_argument("--tokens", type=int, default=16, help="of a caption")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU here: nothing was measured (--tiny --device cpu runs the code)")
        return
    dtype = torch.float32 if args.tiny else torch.bfloat16
    watched = Watched(made(args.tiny, args.device, dtype), args.tokens, SIDES[args.tiny])
    card = torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device
    found: dict[str, Any] = {"device": card, "dtype": str(dtype).removeprefix("torch."), "tiny": args.tiny}
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "sustained": lambda: sustained(watched, args.seconds, args.every),
        "streams": lambda: many(watched, args.streams, args.seconds, args.every),
        "age": lambda: age(watched, args.hours, args.pace, args.every),
    }
    for name, part in parts.items():
        found[name] = part()
        print(f"{name} (goal: {GOALS[name]}): {found[name]}", flush=True)
        if args.json:
            write(args.json, **found)


if __name__ == "__main__":
    main()
