"""Station 2, changes to vectors: the worker loop, planning, fetching, decoding, CLIP."""
