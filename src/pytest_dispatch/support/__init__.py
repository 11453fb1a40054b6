"""General support code: an event loop in a thread, blocking work beside a loop, JSON, file stamps, connections."""
