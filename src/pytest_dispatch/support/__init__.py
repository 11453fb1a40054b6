"""What any part may use: an event loop in a thread, blocking work beside it, JSON, file stamps, network errors."""
