"""Data sets, one file each; every class here can be named as `data.source`."""

from tuner.data.sources.base import Source
from tuner.plugins import import_all

import_all(__name__, __path__)

__all__ = ["Source"]
