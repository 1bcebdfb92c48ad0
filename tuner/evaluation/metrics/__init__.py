"""The room of metrics: every file here that defines a `Metric` is found by being there."""

from tuner.plugins import import_all

import_all(__name__, __path__)
