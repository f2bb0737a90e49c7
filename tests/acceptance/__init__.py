"""The whole node: real processes, real sockets, real kills."""
