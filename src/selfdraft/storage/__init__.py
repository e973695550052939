"""What is kept on disk, and how it gets there whole: the cache folder, documents, tensors."""
