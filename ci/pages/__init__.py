"""What turns chapters and records into pages, an archive and a print edition; sphinx/ has the extensions."""
