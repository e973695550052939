"""Who answers: our drafts, transformers, and other programs behind one protocol."""
