"""Programs of nodes; they stand apart, as they import libraries that are optional."""
