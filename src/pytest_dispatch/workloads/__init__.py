"""The kinds of workloads, a folder each: what is run, how its attempts live, and what carries it out."""
