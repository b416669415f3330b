"""What each route does: a file a noun."""
