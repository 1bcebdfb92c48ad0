"""Talking to a run and its base, in a terminal or on a page."""
