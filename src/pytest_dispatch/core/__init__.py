"""What holds without any I/O: values, the state table, the queue."""
