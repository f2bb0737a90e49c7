"""Brings models in: packages from elsewhere, MONAI bundles, nnU-Net folders; proves, validates and measures them."""
