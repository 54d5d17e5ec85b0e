"""Published tables as recipes: what is trained, which cells there are, what others measured. Import from the files."""
