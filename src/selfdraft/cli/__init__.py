"""The command line: one file per command, gathered in `app`. Nothing else imports this folder."""
