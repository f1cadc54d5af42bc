"""Where the files of a cascade are, and how its networks are read from them."""
