"""In from the PACS: who may associate, how objects land on disk, when a series is complete."""
