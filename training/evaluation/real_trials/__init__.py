"""Studies on shards of real ECGs: what the model says of the strip after, beside what was recorded."""
