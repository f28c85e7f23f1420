"""The command line: one file a verb, imported when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

VERBS = {
    "caption": "caption video, sound, images, point clouds and sensor series as they stream",
    "watch": "watch a camera, a file or several sources as they run; ask at any time, stop and go on later",
    "find": "find when something was told of a stream that was watched",
    "transcribe": "write down what is said in sounds and films, with times",
    "speak": "say a text in a voice, as a sound file",
    "ask": "answer a question about pictures, films, sounds or clouds",
    "classify": "say which labels fit pictures, films or sounds",
    "match": "say how well texts fit pictures, films or sounds",
    "ground": "say what is in pictures and where, or where a phrase is",
    "embed": "give a vector for each picture, film, sound or text",
    "demo": "caption the sample media that come with mmworld",
    "eval": "score a model on held-out data, as a table",
    "train": "train a model from a recipe",
    "models": "list the models at hand",
    "data": "list and check training sets",
    "doctor": "say what works on this machine, and how to mend what does not",
}

HELP = """usage: mmworld VERB [options]

{verbs}

mmworld VERB --help shows a verb's options; mmworld --version the version."""


def main() -> None:
    """The `mmworld` command: run the process's own command line and leave."""
    from mmworld.cli import guard

    # Before torch is there: threads that spin while they wait take the core that decodes the media.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # What torch's C++ warns of are hints for its own callers: one comes at every training run in several processes.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    guard.leave(command(sys.argv[1:]))


def command(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code: 0 fine, 1 internal, 2 usage, 3 partial, 4 bad input,
    5 model, 6 resources, 130 interrupted, 141 closed pipe."""
    from mmworld.cli import guard

    return guard.run(lambda: _dispatch(list(argv)), debug="--debug" in argv)


def _dispatch(argv: list[str]) -> int:
    first = argv[0] if argv else "--help"
    if first in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {name:<11}{text}" for name, text in VERBS.items())))
        return 0 if argv else 2
    if first in ("-V", "--version"):
        from mmworld import __version__

        print(f"mmworld {__version__}")
        return 0
    from mmworld.cli.flags import parse

    return parse(first, argv[1:])
