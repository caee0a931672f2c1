"""Pixtail: what the stations share, and the program that runs them."""
