"""What a run stores, and the only code that reads and writes it."""
