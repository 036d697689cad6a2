"""Models on disk: the demo model, and downloads from a hub."""
