"""Making an image out of programs of the host: what belongs together (`programs`), where it stands (`tree`), its bytes (`archive`)."""
