"""Templates, styles and scripts of the report; all of it ends up inlined."""
