"""Cheap, trustworthy fine-tuning of small chat models. Importing this package imports no torch."""

__version__ = "0.1.0"
