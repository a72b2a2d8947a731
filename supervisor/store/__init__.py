"""The bucket: one small protocol, a backend for each kind of place, retries around them."""
