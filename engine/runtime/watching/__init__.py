"""What watches of the cluster tell: what is declared, what targets read, and the objects that they own."""
