"""The command `dispatch`: runs a lab, and maintains its journal."""
