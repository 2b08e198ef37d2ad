"""``python -m dpd_core.bundled --eurosat DIR --aerial DIR --work WORKDIR --out assets``."""

import sys

from dpd_core.bundled.pretrain import main

if __name__ == "__main__":
    sys.exit(main())
