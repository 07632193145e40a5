"""One program per check; each says in its first sentence what is checked and ends with one line of result."""
