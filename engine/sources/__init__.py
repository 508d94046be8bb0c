"""Where artifacts come from: sources are asked, and what is new is fetched."""
