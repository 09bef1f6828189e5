"""INT8 and sparsity; NNCF is used here and nowhere else."""
