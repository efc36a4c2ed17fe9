"""What the machine gives: memory, workers and torch; and checks of what comes in."""
