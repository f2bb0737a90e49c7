"""Orders in, urgency out."""
