"""What the networks see: every operation draws its randomness first, then is applied purely and in batches."""
