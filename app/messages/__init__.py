"""Messages: agents that write to each other, one by one or in group chats."""
