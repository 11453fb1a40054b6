"""The command `dispatch`: a lab for people, and what is done to its journal."""
