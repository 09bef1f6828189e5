"""What the machine gives: processes, memory, signals, versions."""
