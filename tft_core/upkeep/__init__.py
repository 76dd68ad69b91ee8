"""What keeps a state directory usable: its pages, its backups, its garbage."""
