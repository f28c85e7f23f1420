"""The parser of every verb: hyphens or underscores; settings from a file, then MMWORLD_*, then flags."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from mmworld.cli import VERBS
from mmworld.errors import ConfigError, UsageError

NOT_SETTINGS = {"help", "config", "print_config", "debug"}
SWITCH: Any = {"action": argparse.BooleanOptionalAction, "default": False}
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageError."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as UsageError."""
        raise UsageError(message, hint=f"see {self.prog} --help")


def parse(verb: str, argv: Sequence[str]) -> int:
    """Parse the rest of a command line for `verb` and run it; its exit code."""
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        raise UsageError(f"no verb {verb!r}", hint=f"did you mean {near[0]}?" if near else f"one of {', '.join(VERBS)}")
    module = importlib.import_module(f"mmworld.cli.{verb}")
    parser = Parser(prog=f"mmworld {verb}", description=VERBS[verb], allow_abbrev=False)
    module.add_arguments(parser)
    _add_common(parser)
    argv = list(_hyphens(argv))
    args, unknown = parser.parse_known_args([*_settings(parser, argv), *argv])
    if unknown:
        hint = f"for the file write ./{unknown[0]}" if os.path.lexists(unknown[0]) else f"see {parser.prog} --help"
        raise UsageError(f"unknown option {unknown[0]}", hint=hint)
    if args.print_config:
        print(_effective(parser, args), end="")
        return 0
    return module.run(args)


def seconds(text: str) -> float:
    """Seconds from "90", "1:30" or "00:01:30.000"."""
    parts = text.split(":")
    if len(parts) > 3:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, write seconds or HH:MM:SS.mmm")
    try:
        value = sum(float(part) * 60**i for i, part in enumerate(reversed(parts)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time, write seconds or HH:MM:SS.mmm") from None
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time from 0 up")
    return value


def positive(text: str) -> float:
    """A number above zero."""
    value = seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be more than 0")
    return value


def similarity(text: str) -> float:
    """A cosine above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and at most 1")
    return value


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return int(text)


def _add_common(parser: Parser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument("--config", metavar="FILE", help="YAML of these options; MMWORLD_* and flags override it")
    group.add_argument("--print-config", action="store_true", help="print the settings as YAML for --config, and stop")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _hyphens(argv: Sequence[str]) -> Iterator[str]:
    """--output_dir=x_y as --output-dir=x_y, up to a lone "--"."""
    options = True
    for word in argv:
        options = options and word != "--"
        name, equals, value = word.partition("=")
        yield name.replace("_", "-") + equals + value if options and word.startswith("--") else word


def _settings(parser: Parser, argv: list[str]) -> list[str]:
    """The file's and the environment's settings as the beginning of a command line, so that later ones win."""
    actions = {a.dest: a for a in parser._actions if a.option_strings and a.dest not in NOT_SETTINGS}
    peek = Parser(add_help=False, allow_abbrev=False)
    peek.add_argument("--config", default=os.environ.get("MMWORLD_CONFIG"))
    file = peek.parse_known_args(argv)[0].config
    words = []
    for key, value in (_read(file) if file else {}).items():
        dest = str(key).replace("-", "_")
        if dest not in actions:
            near = difflib.get_close_matches(dest, actions, n=1)
            raise ConfigError(f"{file}: unknown setting {key!r}", hint=f"did you mean {near[0]}?" if near else "")
        words += _words(actions[dest], value, f"{file}: {key}")
    for dest, action in actions.items():
        name = f"MMWORLD_{dest.upper()}"
        if name in os.environ:
            words += _words(action, os.environ[name], name)
    return words


def _read(path: str) -> dict[Any, Any]:
    from mmworld.config import read

    return read(path)


def _words(action: argparse.Action, value: Any, where: str) -> list[str]:
    """One setting as command-line words, checked here so that the error can say where it stands."""
    if value is None:
        return []
    if action.nargs == 0:
        return _switch(action, str(value).lower(), where)
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        parsed = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError) as e:
        raise ConfigError(f"{where}: {e}") from None
    if action.choices is not None and parsed not in action.choices:
        raise ConfigError(f"{where}: {text!r} is not one of {', '.join(map(str, action.choices))}")
    return [f"{action.option_strings[-1]}={text}"]


def _switch(action: argparse.Action, text: str, where: str) -> list[str]:
    if text not in TRUE | FALSE:
        raise ConfigError(f"{where}: {text!r} is neither true nor false")
    on = next(o for o in action.option_strings if o.startswith("--") and not o.startswith("--no-"))
    off = [o for o in action.option_strings if o.startswith("--no-")]
    return [on] if text in TRUE else off[:1]


def _effective(parser: Parser, args: argparse.Namespace) -> str:
    import yaml

    dests = [a.dest for a in parser._actions if a.option_strings and a.dest not in NOT_SETTINGS]
    return yaml.safe_dump({d: getattr(args, d) for d in dests if getattr(args, d) is not None}, sort_keys=False)
