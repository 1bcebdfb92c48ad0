"""Renderings of a conversation, one file each; every class here can be named as `data.prompt`."""

from tuner.data.prompts.base import Prompt
from tuner.plugins import import_all

import_all(__name__, __path__)

__all__ = ["Prompt"]
