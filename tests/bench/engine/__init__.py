"""The snapshot engine against its peers, on one in-memory S3 server, with and without network latency."""
