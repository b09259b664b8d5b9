"""What runs in the worker processes: the only code that opens archives.

A worker is a fresh interpreter that shuts itself into one directory before it reads the first byte (`confine`), does one job and ends.
stdlib, `linux/`, `wire/tar`, `store/atomic` and the decompressors only, all imported before the door closes.
"""
