"""One file a command: add_arguments(parser) and command(args, config) -> exit status."""
