"""The log on NATS JetStream, with its work queues and its inbox: the one door to NATS."""
