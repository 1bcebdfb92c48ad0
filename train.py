"""Train an adapter: `python train.py fit --config configs/lora.yaml`."""

import sys

from tuner.cli import main

if __name__ == "__main__":
    sys.exit(main())
