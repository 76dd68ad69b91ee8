"""The 292 features and the user's own: declared, built from bars as known, audited."""
