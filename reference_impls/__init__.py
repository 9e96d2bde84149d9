"""Reference implementations of the protocols under test; standard library only."""
