"""From rows of a data set to batches with an exact loss mask."""
