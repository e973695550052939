"""Which draft: the search for skip sets, while text is generated or ahead of time."""
