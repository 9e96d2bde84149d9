"""Programs that nodes of some systems run: apart, as they import what is optional."""
