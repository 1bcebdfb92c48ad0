"""Train an adapter: `python train.py fit --config configs/lora.yaml`."""

import sys

from tuner.process import start

if __name__ == "__main__":
    sys.exit(start("tuner.cli"))
