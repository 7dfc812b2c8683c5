"""What every service stands on: settings, broker, frame store, database, auth, telemetry, life cycle."""
