"""Teul, a container engine.

Importing this package costs next to nothing: the keeper and every container's first process start through it.
"""

__version__ = "0.1.0"
