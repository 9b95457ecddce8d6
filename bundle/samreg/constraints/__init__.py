"""What a caller demands of a transform: masks of what counts, landmarks, and regions that keep volume or shape."""
