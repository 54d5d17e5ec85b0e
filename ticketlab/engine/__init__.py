"""Training one ticket, the same way whatever asked for it."""
