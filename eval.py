"""Compare tuned runs with their base: `python eval.py lora`."""

import sys

from tuner.tools.compare import main

if __name__ == "__main__":
    sys.exit(main())
