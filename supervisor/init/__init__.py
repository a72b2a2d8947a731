"""What PID 1 owes its VM: signals that are not lost, orphans that are reaped, strays that are ended."""
