"""What keeps a state directory usable: pages, alerts, backups, garbage, migration."""
