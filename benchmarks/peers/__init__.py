"""Other libraries doing the same work, each in its best configuration for the same number of threads."""
