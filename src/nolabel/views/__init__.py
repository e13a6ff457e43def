"""What the networks see: an operation draws its randomness first, then is applied purely, in batches."""
