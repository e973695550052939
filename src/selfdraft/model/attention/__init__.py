"""Attention row by row: which keys a row sees, and how its bits stay its own."""
