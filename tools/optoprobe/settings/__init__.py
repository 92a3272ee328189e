"""What a probe is told: its settings checked, brought onto its board, and the files that they name."""
