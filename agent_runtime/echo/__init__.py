"""Echo: the smallest agent there is, for fast tests and as a pattern for your own."""
