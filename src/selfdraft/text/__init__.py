"""Between text and tokens: prompts, the pieces of an output, stop strings, grammars."""
