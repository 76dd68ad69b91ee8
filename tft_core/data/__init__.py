"""Market data: a store with every vintage, what a bar must be to come in, calendars, quality."""
