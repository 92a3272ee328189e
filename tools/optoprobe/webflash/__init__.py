"""The site that writes a probe onto a chip from a browser: its files, and its page in two languages."""
