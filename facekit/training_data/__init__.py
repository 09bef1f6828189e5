"""From labels and pictures to batches that training is fed with."""
