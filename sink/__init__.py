"""Station 3, vectors to points: Qdrant server, the embedded store, the in-memory store."""
