"""Networks that other groups trained: their weights read without executing a pickle, their answers in our terms."""
