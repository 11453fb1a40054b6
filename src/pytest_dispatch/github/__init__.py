"""What is said to GitHub: its API, the way there, tokens, and issues with their texts."""
