"""Everything that sets up, executes, builds and checks the book: `python -m ci help`."""
