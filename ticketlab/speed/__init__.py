"""How fast a ticket runs, beside dense engines and its density's limit. Import from the files: this one is empty."""
