"""``python -m ticketlab``."""

import sys

from ticketlab.cli import main

if __name__ == "__main__":
    sys.exit(main())
