"""``python -m hybridcore.cli`` is the command ``hybridcore``."""

import sys

from hybridcore.cli import main

sys.exit(main())
