"""Takes what comes from outside into the artifact store, in processes of their own."""
