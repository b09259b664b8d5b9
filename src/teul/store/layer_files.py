"""What the files of a layer are called in its directory: who makes a layer and who keeps it must agree."""

INDEX_FILE = "index.erofs"  # the metadata image that the kernel mounts
ARCHIVE_FILE = "layer.tar"  # the uncompressed archive, where the index finds the files' bytes
FILES_DIRECTORY = "fs"  # the files themselves, of a layer without an index
