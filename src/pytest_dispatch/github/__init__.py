"""GitHub: its API, connections, tokens, and issues with their texts."""
