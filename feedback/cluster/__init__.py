"""The way to a Kafka and back, by kafka-python: its clients, our topics, what sends and what reads."""
