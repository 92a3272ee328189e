"""What a clone needs around it: Python packages, the virtual board's runtime, the bill of what has come."""
