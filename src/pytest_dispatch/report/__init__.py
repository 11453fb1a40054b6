"""What is told to the world: JUnit files, GitHub issues, and what workloads tell us."""
