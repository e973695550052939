"""`selfdraft bench`: its commands, their options and tables."""
