"""`python -m tamago`, where the command is not on the path."""

import sys

from .compiler.cli import main

if __name__ == "__main__":
    sys.exit(main())
