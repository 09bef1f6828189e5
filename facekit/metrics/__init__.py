"""What a detector is worth, in numbers: pure numpy, no network and no picture needed."""
