"""How much of anybody the server takes, how fast, and from whom."""
