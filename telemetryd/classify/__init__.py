"""Which department, zone and application a sample belongs to, and which links it crossed."""
