"""What a model is made of: layers learned by watching it run, certified, and remembered."""
