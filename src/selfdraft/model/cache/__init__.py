"""The memory of a sequence: keys and values of every layer, with one logical length."""
