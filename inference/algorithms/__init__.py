"""What models compute: one module an algorithm, found by name in the registry."""
