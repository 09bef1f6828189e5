"""INT8 and sparsity, by NNCF; what a runtime needs of it lies in facekit.targets.nncf_."""
