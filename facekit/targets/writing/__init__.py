"""What the targets are written with: the graph that all export, the proof that it is unchanged, the README."""
