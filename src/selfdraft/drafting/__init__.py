"""Who proposes: drafters, which may be as wrong as they like without changing the text."""
