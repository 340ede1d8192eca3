"""The command line: one file a command in `commands/`, imported only when it is called."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from .errors import EXIT_INTERRUPTED, TamagoError

COMMANDS = {
    "optimize": "make a model file faster or smaller, checked against the original",
    "frontier": "what each bound on the error buys: a file for each, and a report that draws them",
    "inspect": "what is in a model file, without changing it",
    "explain": "which rules apply to a model, where, and why others do not",
    "check": "compare what two model files compute",
    "bench": "time model files side by side",
    "tune": "measure forms of a model's kernels on this GPU, and keep the records",
    "web": "write a folder with a page that runs a model on the visitor's GPU",
    "doctor": "is this installation able to do its work",
    "cache": "the store of measured prices: size, clear, export, import",
}
USAGE = "tamago COMMAND …   (tamago COMMAND --help says more)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 a check failed, 2 bad input, 3 unsupported, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        from .. import __version__

        print(f"tamago {__version__}")
        return 0
    if words[0] not in COMMANDS:
        print(f"error[U020]: there is no command {words[0]!r}\n  to do: {USAGE}", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"usage: {USAGE}", "", "the cheapest program that computes your model within the error you allow", ""]
    return "\n".join([*lines, *(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())])


def _run(name: str, words: Sequence[str]) -> int:
    command = import_module(f".commands.{name}", __package__)
    parser = argparse.ArgumentParser(prog=f"tamago {name}", description=COMMANDS[name])
    parser.add_argument("--debug", action="store_true", help="show a traceback with an error")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    command.arguments(parser)
    options = parser.parse_args(words)
    options.command = shlex.join(["tamago", name, *words])
    run: Callable[[argparse.Namespace], int] = command.run
    if options.json:
        _keep_output_apart()
    try:
        return run(options)
    except TamagoError as error:
        if options.debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _keep_output_apart() -> None:
    """Only what is printed reaches the standard output: a library that writes there itself would spoil the JSON."""
    if sys.stdout is not sys.__stdout__:
        return
    sys.stdout.flush()
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = own


if __name__ == "__main__":
    sys.exit(main())
