"""InfluxDB's side of the outputs: transport, what an answer means, delivery, the file of rejected lines."""
