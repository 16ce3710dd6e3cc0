"""Other people's tools; none is imported before one of these modules is."""
