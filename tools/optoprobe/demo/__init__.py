"""What `demo` plays and what it shows of it."""
