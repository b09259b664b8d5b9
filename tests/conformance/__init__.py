"""Teul beside Docker: the same commands to both, and a probe inside both's containers; what differs is listed with its reason."""
