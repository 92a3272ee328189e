"""What a board is: its file, held against its chip, asked for, or as a table."""
