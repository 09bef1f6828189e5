"""Many pictures on many machines: shards of work, what is finished of them, and the workers of Ray Data."""
