"""What becomes of vectors that are stored in a smaller form; knows vectors, not tasks."""
