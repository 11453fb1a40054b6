"""The journal: the lab's database on disk."""
