"""Ways to tune a base model, one file each; every class here can be named as `model.head`."""

from tuner.heads.base import Head, PeftHead
from tuner.plugins import import_all

import_all(__name__, __path__)

__all__ = ["Head", "PeftHead"]
