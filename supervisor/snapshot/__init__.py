"""The snapshot engine: a tree on disk, an immutable history of it in the bucket, and one writer at a time."""
