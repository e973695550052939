"""Ways to propose the next skip set, and the space of sets that they walk in."""
