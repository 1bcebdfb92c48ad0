"""The embedded model: weights, tokenizer, card and the recipe that made them."""
