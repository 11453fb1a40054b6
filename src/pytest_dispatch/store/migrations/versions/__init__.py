"""The migrations, one for each version."""
