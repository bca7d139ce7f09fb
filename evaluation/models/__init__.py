"""What a model is, and what its files declare."""
