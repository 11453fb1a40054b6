"""Migrations that upgrade a journal of an older version."""
