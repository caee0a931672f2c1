"""`reindex` and `rollback`: the index moves to another model, and back."""
