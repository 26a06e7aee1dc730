"""The face detector: pictures labelled by two teachers, and a small network that learns from them."""
