"""The kernel: histories, generators, interpreter, worlds, adapters, command line."""
