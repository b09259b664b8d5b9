"""Where a layer's archive becomes other files than in dockerd: `tests/conformance/layer_cases.py` has the archives that show it."""

from __future__ import annotations

# What differs, and why.
LAYERS: tuple[tuple[str, str], ...] = (
    (
        "several entries of one name",
        "the later one wins, as in any tar; dockerd refuses such an archive when it loads it",
    ),
    (
        "a whiteout of a name that the layer itself has",
        "hides what lower layers have of it, whichever comes first; dockerd refuses the one order, and merges directories in the other",
    ),
    ("an entry `./` or `/`", "the layer's own top directory has its owner, mode and time; no container shows them, as in dockerd"),
    ("times before 1970", "kept back to 1901; dockerd has 1970 in their place, but for symlinks"),
    ("directories that have no entry", "have a time that says nothing: that of the unpacking, or of the first entry in them"),
    ("records of aufs (`.wh..wh.…`)", "are no files"),
    (
        "attributes `trusted.*`, `user.overlay.*`, `security.*` other than capabilities",
        "passed over: the first could change what an overlay shows, labels and signatures are for the host's own policy to give",
    ),
    ("an attribute with an empty value", "kept; dockerd drops it"),
    ("a default ACL of what is no directory", "passed over, like every attribute that a file of its kind cannot have; dockerd refuses it"),
    ("files in a directory with a default ACL", "have what the archive gives them; dockerd lets them inherit the directory's"),
    ("a further hard link to a file with capabilities", "takes none away, if its entry has none"),
    ("a hard link to itself", "is there already; dockerd refuses it"),
    ("sparse files of GNU's first format, contiguous files (type 7)", "are read; dockerd refuses them"),
    ("paths of nearly 4096 bytes", "count from the layer's top; in dockerd, from the host's root"),
    ("names with `..`", "refused; dockerd takes what stays inside"),
    ("an absolute symlink as a directory of another entry's name", "refused; dockerd follows it inside the layer"),
    ("a character device 0:0", "refused: it is how an overlay writes a whiteout"),
)
