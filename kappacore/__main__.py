"""``python -m kappacore``: the same as the command ``kappacore``."""

from __future__ import annotations

import sys

from kappacore.cli import main

if __name__ == "__main__":
    sys.exit(main())
