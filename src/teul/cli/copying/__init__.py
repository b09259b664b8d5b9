"""Files between the user's machine and containers: what is copied where, and the archives that carry it."""
