"""What protects readers from hostile files: sizes, directories and headers looked at first."""
