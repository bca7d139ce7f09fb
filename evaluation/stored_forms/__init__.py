"""What storing vectors in a smaller form makes of them; knows vectors, not tasks."""
