"""Drafts that cost no pass of the model: the text so far, earlier texts, runners-up."""
