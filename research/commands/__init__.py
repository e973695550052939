"""`python -m research`: its commands, their options and tables."""
