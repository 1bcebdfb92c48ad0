"""`tuner COMMAND`: everything there is, by name; `train.py` and `eval.py` among it."""

from __future__ import annotations

import sys

from tuner.errors import nearest
from tuner.process import run, start
from tuner.surroundings import open_streams

# Name, what stands behind it on the command line, the module, and what it does; in order of use.
COMMANDS = (
    ("preview", "--config FILE", "tuner.tools.preview", "show what a run would learn from"),
    ("plan", "--config FILE", "tuner.tools.plan", "memory and time of a step, before it loads"),
    ("fit", "--config FILE", "tuner.cli", "train an adapter, as train.py does"),
    ("validate", "--config FILE", "tuner.cli", "the loss of a checkpoint on its validation rows"),
    ("test", "--config FILE", "tuner.cli", "likewise on its test rows"),
    ("predict", "--config FILE", "tuner.cli", "its replies to the test prompts"),
    ("sweep", "FILE", "tuner.tools.sweep", "settings of a recipe with several seeds, and the best"),
    ("runs", "", "tuner.tools.runs", "all runs with their key figures"),
    ("eval", "RUN...", "tuner.tools.compare", "compare runs with their base, as eval.py does"),
    ("rate", "COMPARISON", "tuner.tools.rate", "people rate the answers of a comparison, blind"),
    ("report", "COMPARISON", "tuner.tools.report", "its reports anew, with what people said"),
    ("chat", "RUN", "tuner.tools.chat", "talk to a run; --compare asks its base as well"),
    ("export", "RUN --to DIR", "tuner.tools.export", "one model, or the adapter, for other tools"),
    ("serve", "RUN", "tuner.tools.serve", "a run behind an OpenAI-compatible endpoint"),
    ("completion", "SHELL", "tuner.tools.completion", "a script that completes all of this"),
)
START = """
COMMAND --help explains a command. RUN is the name of a run (tuner runs lists them), name@version or
a folder. A first look, on two CPU cores and without a network:

  tuner fit --config configs/demo.yaml
  tuner eval demo --max_new_tokens 96
  tuner chat demo --compare
"""


def main() -> int:
    """Hand over to the command; its imports are paid for only when it is chosen.

    Returns:
        The exit code.
    """
    open_streams()
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        return run(_help)
    modules = {name: module for name, _, module, _ in COMMANDS}
    if command not in modules:
        print(f"error: no command '{command}'. {nearest(command, modules)}", file=sys.stderr)
        return 2
    # The parser of train.py tells its commands apart itself.
    return start(modules[command], None if modules[command] == "tuner.cli" else sys.argv[2:])


def _help() -> None:
    print("usage: tuner COMMAND [options]\n")
    width = max(len(f"{name} {operands}") for name, operands, _, _ in COMMANDS)
    for name, operands, _, does in COMMANDS:
        print(f"  {f'{name} {operands}':<{width}}  {does}")
    print(START, end="")


if __name__ == "__main__":
    sys.exit(main())
