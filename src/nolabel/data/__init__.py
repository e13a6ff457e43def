"""Images: read as a person sees them, packed once, handed out by index."""
