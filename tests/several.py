"""Several commands in one process: what takes long is the import."""

COMMANDS = """
import json, sys
from tuner.process import start
for module, *args in json.loads(sys.argv[1]):
    sys.argv = ["x", *args]
    print("code", start(module, args), file=sys.stderr, flush=True)
"""
