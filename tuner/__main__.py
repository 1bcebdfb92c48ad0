"""`tuner COMMAND`: the same as `train.py COMMAND`, and `tuner eval` for `eval.py`."""

from __future__ import annotations

import sys

from tuner.errors import nearest
from tuner.process import run, start

TOOLS = ("preview", "plan", "rate", "report", "export", "serve")
HELP = """usage: tuner COMMAND [options]

  fit, validate, test, predict   train and check an adapter, as train.py does
  eval RUN...                    compare tuned runs with their base, as eval.py does
  preview                        show what the model is trained on; takes the options of fit
  plan                           memory and time of a step before anything loads; likewise
  export RUN --to DIR            one merged model, or the adapter, as other tools load it
  serve RUN                      behind an OpenAI-compatible endpoint
  rate COMPARISON                people rate the answers of a comparison, blind
  report COMPARISON              its reports once more, with what people said

`tuner COMMAND --help` explains a command.
"""


def main() -> int:
    """Hand over to the command; its imports are paid for only when it is chosen.

    Returns:
        The exit code.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        return run(lambda: print(HELP))
    if command == "eval":
        return start("tuner.tools.compare", sys.argv[2:])
    if command in ("fit", "validate", "test", "predict"):
        return start("tuner.cli")
    if command in TOOLS:
        return start(f"tuner.tools.{command}", sys.argv[2:])
    commands = ("fit", "validate", "test", "predict", "eval", *TOOLS)
    print(f"error: no command '{command}'. {nearest(command, commands)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
