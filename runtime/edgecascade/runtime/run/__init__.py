"""What `edgecascade run` is made of: sources of inputs, ways of answering them, and what is printed."""
