"""Tables and figures of records: the source's number beside ours, with its seeds and its interval."""
