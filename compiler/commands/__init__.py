"""The commands of `tamago`: each file has `arguments(parser)` and `run(options) -> exit code`."""
