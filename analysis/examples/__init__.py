"""How results and adaptors are used from Python."""
