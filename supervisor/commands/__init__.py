"""One module a command, each with `main(arguments) -> exit code`; what they share lies beside them."""
