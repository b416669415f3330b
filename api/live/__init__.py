"""Live: sockets and event streams. What they tell comes from Postgres; news from Redis only says when to look."""
