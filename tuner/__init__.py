"""Cheap, trustworthy fine-tuning of small chat models. Importing this package imports no torch."""

import sys

__version__ = "0.1.0"

# Where this package is installed, transformers and bitsandbytes load native code of the hub with
# it, unasked or because the configuration of a base names it.
sys.modules["kernels"] = None  # pyright: ignore[reportArgumentType]
