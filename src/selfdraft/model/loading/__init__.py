"""From a name to a model that is whole: aliases, GGUF files, folders, the hub."""
