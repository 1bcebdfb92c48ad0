"""Compare tuned runs with their base: `python eval.py lora`."""

import sys

from tuner.process import start

if __name__ == "__main__":
    sys.exit(start("tuner.tools.compare"))
