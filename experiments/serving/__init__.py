"""Personal models of a finished run: made, asked, served and exported."""
