"""The project against its own words: documents, import law, migrations."""
