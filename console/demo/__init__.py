"""The demo: a real network of hospitals, one training across them, its audit; everything is taken down at the end."""
