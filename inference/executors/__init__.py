"""Runs models in processes of their own: one slot a device, warm models, and a kill for what hangs or eats memory."""
