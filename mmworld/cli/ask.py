"""mmworld ask: a question about pictures, films, sounds or clouds; the answer appears as it is made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mmworld.cli.flags import SWITCH, count, positive
from mmworld.cli.inputs import add_gate, expand, opened, settle_gate, span
from mmworld.cli.model import add_model, chosen
from mmworld.errors import CheckpointError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `mmworld ask`."""
    parser.add_argument("question", help="in quotation marks; - reads one a line and goes on with the conversation")
    parser.add_argument("input", nargs="*", metavar="INPUT", help="what it is about: files, folders, patterns, data:")
    add_model(parser.add_argument_group("model"))
    group = parser.add_argument_group("how it answers")
    group.add_argument("--system", default="", metavar="TEXT", help="what the model is told before all else")
    group.add_argument("--begin", default="", metavar="TEXT", help="how the answer begins")
    group.add_argument("--choice", action="append", metavar="TEXT", help="answer the likeliest of these; repeatable")
    group.add_argument("--schema", metavar="FILE", help="answer in JSON by the JSON schema of this file")
    group.add_argument("--max-tokens", type=count, default=256, metavar="N", help="longest answer (256)")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="what ends an answer; repeatable")
    group.add_argument("--temperature", type=positive, metavar="T", help="draw the words; without it the likeliest")
    group.add_argument("--top-p", type=positive, metavar="P", help="draw among the likeliest that reach P")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the drawing")
    group.add_argument("--json", **SWITCH, help="an object for each answer, one a line")
    add_gate(parser)


def run(args: argparse.Namespace) -> int:
    """Print the answer, or one for each question of standard input."""
    from mmworld.generate.stop import Stop
    from mmworld.verbs.ask import Conversation

    if not args.question.strip():
        raise UsageError("no question", hint='mmworld ask "what is this?" a.jpg')
    told = [f"--{name}" for name in ("begin", "choice", "schema") if getattr(args, name)]
    if len(told) > 1:
        raise UsageError(f"{' and '.join(told)} both say what the answer is", hint="leave one out")
    schema = _schema(args.schema)
    settle_gate(args)
    media = [opened(name, args) for name in expand(args.input)]
    stop = Stop(args.max_tokens, tuple(args.stop))
    talk = Conversation(chosen(args), system=args.system, sampler=_sampler(args), stop=stop)
    talk.show(*media, **span(args))
    for question in _questions(args.question):
        _answer(talk, question, schema, args)
    return 0


def _questions(question: str) -> Any:
    if question != "-":
        yield question
        return
    shown = sys.stdin.isatty()
    while True:
        if shown:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(talk: Any, question: str, schema: dict[str, Any] | None, args: argparse.Namespace) -> None:
    scores = talk.choose(question, args.choice) if args.choice else {}
    if args.json:
        from mmworld.cli.console import report

        said = next(iter(scores)) if scores else talk.ask(question, args.begin, schema)
        answer = {"question": question, "answer": said, "model": args.model}
        report("", answer | ({"log_probabilities": scores} if scores else {}), as_json=True)
        return
    if scores:
        print(next(iter(scores)))
        return
    sys.stdout.write(args.begin)
    for i, piece in enumerate(talk.stream(question, args.begin, schema)):
        sys.stdout.write(piece if i or args.begin else piece.lstrip())
        sys.stdout.flush()
    sys.stdout.write("\n")


def _schema(path: str | None) -> dict[str, Any] | None:
    """The schema in a file, looked at before a model is loaded."""
    if not path:
        return None
    from mmworld.generate.grammar import Grammar
    from mmworld.weights.shards import read_json

    try:
        schema = read_json(Path(path))
        Grammar.json(schema)
    except CheckpointError as e:
        raise UsageError(str(e)) from None
    except UsageError as e:
        raise UsageError(f"{path}: {e}") from None
    return schema


def _sampler(args: argparse.Namespace) -> Any:
    from mmworld.generate.samplers import GREEDY, Sample

    if args.temperature is None and args.top_p is None:
        return GREEDY
    try:
        return Sample(args.temperature or 1.0, top_p=args.top_p, seed=args.seed)
    except ValueError as e:
        raise UsageError(str(e)) from None
