"""Holds what every service needs: broker, stores, database, consuming, failures, telemetry and the process itself."""
