"""The large remote model: the protocol that it follows, the servers that can be asked, and what wraps them."""
