"""Who may use the lab: users, tokens, browsers that are signed in, and the log of what they change."""
