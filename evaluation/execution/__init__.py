"""Jobs become stored records."""
