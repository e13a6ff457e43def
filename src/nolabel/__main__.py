"""`python -m nolabel` is the command `nolabel`."""

import sys

from nolabel.cli import main

if __name__ == "__main__":
    sys.exit(main())
