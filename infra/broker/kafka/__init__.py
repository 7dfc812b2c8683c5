"""The broker port on Apache Kafka, by aiokafka: for production, and wherever one machine is not enough."""
