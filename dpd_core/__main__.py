"""``python -m dpd_core``."""

import sys

from dpd_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
