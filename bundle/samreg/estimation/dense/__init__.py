"""The dense engine: forces from local correlation and descriptors, and the symmetric descent that follows them."""
