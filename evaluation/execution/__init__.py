"""Plans -> stored records."""
