"""The lab: one queue, one journal, and around them the machines, the bytes, the outbox, and those who wait."""
