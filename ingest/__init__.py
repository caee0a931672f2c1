"""Station 1, MySQL to changes: the binlog listener and the snapshot."""
