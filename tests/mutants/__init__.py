"""Known bugs, planted one at a time: the tests must notice each."""
