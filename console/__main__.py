"""``python -m fedfabric.console``: the same command where the script is not on PATH."""

import sys

from . import main

sys.exit(main())
