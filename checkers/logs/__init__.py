"""What the kafka checker is made of: steps of clients, logs of keys, rules, cycles."""
