"""Repositories of the Hugging Face Hub: found, fetched and locked."""
