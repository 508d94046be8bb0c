"""The vocabulary and its mathematics: pure, without IO, clock or chance."""
