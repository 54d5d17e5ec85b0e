"""A study: its spec, the plan of steps, the store of results, the runners, and what comes out of it."""
