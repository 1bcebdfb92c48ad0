"""A run as other tools load it: weights that were checked, a chat template and a card."""
