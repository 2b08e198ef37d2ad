"""Build and launch DPD Studio: ``python app.py [--port N] [--host ADDRESS] [--home DIR]``."""

import sys

from app.launch import main

if __name__ == "__main__":
    sys.exit(main())
