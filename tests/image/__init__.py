"""The image itself, in real containers: `make test-image`."""
