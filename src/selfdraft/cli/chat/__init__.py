"""`selfdraft chat`: a conversation with a model in this process or with a server."""
