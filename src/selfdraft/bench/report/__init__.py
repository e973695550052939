"""From measurements to a summary, figures and a page."""
