"""Evaluation: predictions are scored, compared with paired statistics, and reported."""
