"""The web page: templates, static files, and the routes that serve them."""
