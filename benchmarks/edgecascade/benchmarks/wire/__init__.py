"""Scripts that run in an environment of their own, beside a real Triton."""
