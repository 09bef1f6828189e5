"""Detection behind an HTTP address: one detector a process, requests that nobody vouches for."""
