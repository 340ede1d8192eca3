"""`tamago cache size|clear|export|import`: the store of measured prices and verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import TamagoError
from ..store import Store
from .shared import print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("action", choices=["size", "clear", "export", "import"])
    parser.add_argument("file", type=Path, nargs="?", help="for export and import: a JSON file")
    parser.add_argument("--store", type=Path, help="another store than the user's own")


def run(options: argparse.Namespace) -> int:
    """Do the action, print what the store holds afterwards."""
    if options.action in ("export", "import") and options.file is None:
        raise TamagoError(
            "U022", f"cache {options.action} needs a file", todo=f"tamago cache {options.action} FILE.json"
        )
    with Store.open(options.store) as store:
        match options.action:
            case "clear":
                store.clear()
            case "export":
                store.export(options.file)
            case "import":
                store.import_(options.file)
            case _:
                pass
        stats = store.stats()
    if options.json:
        print_json(stats)
    else:
        print("\n".join(f"{name:10} {value}" for name, value in stats.items() if value != ""))
    return 0
