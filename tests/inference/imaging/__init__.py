"""From files to volumes: parts of a series, Enhanced objects, geometry."""
