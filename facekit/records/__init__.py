"""What runs leave: the record of a training, of an evaluation, metrics.yaml."""
