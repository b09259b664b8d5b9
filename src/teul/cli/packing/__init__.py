"""Making an image out of programs of the host: which files (`programs`), where they stand (`tree`), their bytes (`archive`)."""
