"""gNMI: transports, decoding of updates, subscriptions."""
