"""What others connect to: the control service, HTTP."""
