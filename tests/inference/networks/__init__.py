"""Networks as packages declare them."""
