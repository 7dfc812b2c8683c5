"""PostgreSQL: the embedded server, the connection pool, what its faults mean, and the migrations."""
