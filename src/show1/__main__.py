"""`python -m show1`: the command `show1`."""

import sys

from show1.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
