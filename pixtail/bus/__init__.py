"""Kafka: topics, the transactional producer, the consumer, the state store, the dead letters. The only folder that imports kafka."""
