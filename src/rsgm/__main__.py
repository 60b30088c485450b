"""The command `rsgm`, as ``python -m rsgm``."""

import sys

from rsgm.cli import main

if __name__ == "__main__":
    sys.exit(main())
