"""What workloads report, read (JSON, JUnit, TAP, KTAP), and told again (timelines, JUnit files)."""
