"""Private MySQL, MariaDB, Kafka and Prometheus processes, for the demo and the tests. They bind 127.0.0.1 and die with their parent."""
