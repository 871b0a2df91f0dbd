"""First weights: new ones, or what files hold."""
