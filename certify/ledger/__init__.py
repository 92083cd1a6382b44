"""What happened when: rollouts, leases and quarantined digests, in a database by SQLAlchemy (SQLite by default)."""
