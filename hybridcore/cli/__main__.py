"""``python -m hybridcore.cli`` is the command ``hybridcore``."""

import sys

from hybridcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
