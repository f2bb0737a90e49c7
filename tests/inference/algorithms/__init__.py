"""What packages run: declared networks that detect and enhance."""
