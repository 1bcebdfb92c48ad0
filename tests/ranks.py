"""Runs command lines one after the other, in each process that torchrun starts."""

import json
import sys
from pathlib import Path

from tuner.cli import main

if __name__ == "__main__":
    commands = json.loads(Path(sys.argv[1]).read_text())
    sys.argv = ["train.py"]
    for command in commands:
        if code := main(command):
            sys.exit(code)
