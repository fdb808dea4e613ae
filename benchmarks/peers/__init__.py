"""What others would use for the same work, each at its best for the same number of threads."""
