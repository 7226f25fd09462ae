"""Groups of commands of `talkset`, each with a `register` that adds them to the application."""
