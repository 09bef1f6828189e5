"""What lies between backbone and head in more than one network."""
