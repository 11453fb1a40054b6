"""What makes a journal of an older version one of today."""
